//! Asks KVM for a VM, which is the cheapest question that another hypervisor in the way answers.

use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// `KVM_CREATE_VM` (Documentation/virt/kvm/api.rst, 4.2) of the default machine type, 0.
struct CreateVm;

// SAFETY: the request takes a number, no pointer, and answers with a new file descriptor that nobody else
// has.
unsafe impl Ioctl for CreateVm {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(0xAE, 0x01)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<OwnedFd, Errno> {
        // SAFETY: the descriptor is the new VM's, and ours to close.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}

/// True for the device that KVM has on each Linux (Documentation/admin-guide/devices.txt).
fn is_kvm(file: &OwnedFd) -> bool {
    let device = rustix::fs::makedev(10, 232);
    rustix::fs::fstat(file).is_ok_and(|data| data.st_rdev == device)
}

/// Opens `/dev/kvm` as QEMU does, and makes a VM, which goes at once: the result of each.
pub(super) fn open_and_create() -> (Result<(), Errno>, Result<(), Errno>) {
    match rustix::fs::open("/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(errno) => (Err(errno), Err(errno)),
        Ok(kvm) if !is_kvm(&kvm) => (Ok(()), Err(Errno::NODEV)),
        // SAFETY: the file is KVM's device, and the request one that it knows.
        Ok(kvm) => (Ok(()), unsafe { ioctl(&kvm, CreateVm) }.map(drop)),
    }
}
