//! A record of a TFRecord file:
//!
//! ```text
//! length       u64, little endian
//! crc(length)  u32, masked
//! data         length bytes
//! crc(data)    u32, masked
//! ```
//!
//! The checksum is CRC32C, masked as `((crc >> 15) | (crc << 17)) + 0xa282ead8`.

const MASK: u32 = 0xa282_ead8;

/// `data` as it stands in a file.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_checksum(data).to_le_bytes());
    record
}

fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::event::{What, encoded};
    use super::*;

    /// The data of every record of a file; all checksums must hold.
    pub fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let data = &file[12..12 + length];
            assert_eq!(framed(data), file[..length + 16]);
            records.push(data.to_vec());
            file = &file[length + 16..];
        }
        records
    }

    #[test]
    fn a_record_has_the_bytes_that_tensorboard_writes() {
        // tensorboard 2.21: RecordWriter(file).write(event.SerializeToString()) of
        // Event(wall_time=1.5, step=300) with train/loss 0.5 and train/learning_rate 0.001
        let expected = concat!(
            "3d000000000000006049f1ec09000000000000f83f10ac022a2f0a110a0a747261696e2f6c6f7373",
            "150000003f0a1a0a13747261696e2f6c6561726e696e675f72617465156f12833adc96ae48"
        );
        let scalars = [
            ("train/loss".to_owned(), 0.5),
            ("train/learning_rate".to_owned(), 0.001),
        ];
        let record = framed(&encoded(1.5, 300, &What::Scalars(&scalars)));
        let hexadecimal: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hexadecimal, expected);
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        // Appendix B.4: 32 bytes of zeros, of ones, and rising.
        let rising: Vec<u8> = (0..32).collect();
        for (data, expected) in [
            (&[0u8; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
        ] {
            assert_eq!(crc32c::crc32c(data), expected);
        }
    }
}
