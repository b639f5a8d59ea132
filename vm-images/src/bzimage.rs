//! Takes the kernel proper (an ELF `vmlinux`) out of a compressed `bzImage`. Pure.
//!
//! Booted through its PVH entry, it spares the guest its own decompression: two seconds of each boot
//! under software emulation. Addresses are not randomised that way, either.

use std::io::{self, Read};

/// Fields of the setup header (Documentation/arch/x86/boot.rst, protocol 2.08).
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Largest kernel that is believed, bytes.
const MAX_SIZE: u64 = 1 << 30;

/// The ELF file within `image`; none if it is no bzImage, is compressed in a way that we do not know,
/// or has no PVH entry. Then the bzImage itself is booted.
pub(crate) fn vmlinux(image: &[u8]) -> Option<Vec<u8>> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let setup_sects = usize::from(*image.get(SETUP_SECTS)?);
    // Zero means four, for historical reasons.
    let protected_mode = (if setup_sects == 0 { 4 } else { setup_sects } + 1) * 512;
    let start = protected_mode.checked_add(word(PAYLOAD_OFFSET)?)?;
    let payload = image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)?;
    let elf = decompress(payload)?;
    (elf.starts_with(b"\x7fELF") && has_pvh_entry(&elf)).then_some(elf)
}

fn decompress(payload: &[u8]) -> Option<Vec<u8>> {
    let read = |reader: &mut dyn Read| -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        reader.take(MAX_SIZE).read_to_end(&mut all)?;
        Ok(all)
    };
    if payload.starts_with(b"\x28\xb5\x2f\xfd") {
        read(&mut ruzstd::decoding::StreamingDecoder::new(payload).ok()?).ok()
    } else if payload.starts_with(b"\xfd7zXZ\0") {
        read(&mut liblzma::read::XzDecoder::new(payload)).ok()
    } else {
        None
    }
}

/// The note of type 18 by "Xen" (`XEN_ELFNOTE_PHYS32_ENTRY`), by which QEMU finds the entry.
fn has_pvh_entry(elf: &[u8]) -> bool {
    // namesz 4, descsz 4 or 8, type 18, "Xen\0".
    [4u8, 8].iter().any(|&size| {
        let note = [4, 0, 0, 0, size, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0];
        elf.windows(note.len()).any(|window| window == note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_left_alone() {
        for bytes in [&b""[..], &[0; 0x300], b"\x7fELF"] {
            assert_eq!(vmlinux(bytes), None);
        }
        let mut lying = vec![0xff; 0x400];
        lying[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        assert_eq!(vmlinux(&lying), None, "offsets beyond the end");
    }

    #[test]
    fn an_xz_payload_is_found() {
        let note = [4u8, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0];
        let elf = [b"\x7fELF....".as_slice(), &note].concat();
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new(elf.as_slice(), 1).read_to_end(&mut packed).unwrap();
        let mut image = vec![0; 5 * 512];
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
        image.extend(packed);
        assert_eq!(vmlinux(&image), Some(elf));
    }
}
