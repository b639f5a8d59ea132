//! Takes the kernel proper (an ELF `vmlinux`) out of a compressed `bzImage`. Pure.
//!
//! A kernel that is booted through its PVH entry does not decompress itself, which takes two seconds of each
//! boot under software emulation. Its addresses are not randomised, either.

use std::io::{self, Read};

/// Fields of the setup header (Documentation/arch/x86/boot.rst, protocol 2.08).
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Field with the offset of the version's text, less 0x200.
const KERNEL_VERSION: usize = 0x20e;

/// Size of an unpacked kernel beyond which it is not read, bytes.
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

/// The release (`uname -r`) that a bzImage states.
pub(crate) fn release(image: &[u8]) -> Option<String> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let at = u16::from_le_bytes(image.get(KERNEL_VERSION..KERNEL_VERSION + 2)?.try_into().ok()?);
    let text = image.get(usize::from(at) + 0x200..)?;
    let end = text.iter().take(100).position(|&byte| byte == b' ' || byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    // It names a folder.
    let is_sane = |c: char| c.is_ascii_alphanumeric() || "+-_.~".contains(c);
    (release.starts_with(|c: char| c.is_ascii_digit()) && release.chars().all(is_sane))
        .then(|| release.to_owned())
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
    fn a_release_is_read_and_names_no_other_folder() {
        let image = |text: &[u8]| {
            let mut image = vec![0; 0x300];
            image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
            image[KERNEL_VERSION] = 0x80;
            image.extend_from_slice(&[0; 0x200]);
            image[0x280..0x280 + text.len()].copy_from_slice(text);
            image
        };
        assert_eq!(release(&image(b"6.8.0-rc1+ (me@here) #1\0")).as_deref(), Some("6.8.0-rc1+"));
        for nonsense in [b"../../etc \0".as_slice(), b"\0", b"linux 6.8\0", &[b'6'; 0x100]] {
            assert_eq!(release(&image(nonsense)), None);
        }
        assert_eq!(release(b"HdrS"), None);
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
