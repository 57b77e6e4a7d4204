//! PNG files without compression, so that the tests need no encoder.

/// 8-bit RGB: `[height, width, 3]`.
pub fn rgb_png(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    assert_eq!(pixels.len(), 3 * width * height);
    let mut header = Vec::new();
    for side in [width, height] {
        let side = u32::try_from(side).expect("a small image");
        header.extend(side.to_be_bytes());
    }
    // 8 bits, RGB, and the only compression, filtering and no interlacing.
    header.extend([8, 2, 0, 0, 0]);
    let lines: Vec<u8> = pixels
        .chunks_exact(3 * width)
        .flat_map(|line| [&[0], line].concat())
        .collect();

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &stored(&lines));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a small image");
    file.extend(length.to_be_bytes());
    let checked = [kind, content].concat();
    file.extend(&checked);
    file.extend(crc_32(&checked).to_be_bytes());
}

/// A zlib stream of stored blocks.
fn stored(content: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = content.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("cut so");
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(adler_32(content).to_be_bytes());
    stream
}

fn crc_32(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            let divides = remainder & 1 == 1;
            remainder >>= 1;
            if divides {
                remainder ^= 0xedb8_8320;
            }
        }
    }
    !remainder
}

fn adler_32(bytes: &[u8]) -> u32 {
    const PRIME: u32 = 65_521;
    let (mut sum, mut sum_of_sums) = (1, 0);
    for byte in bytes {
        sum = (sum + u32::from(*byte)) % PRIME;
        sum_of_sums = (sum_of_sums + sum) % PRIME;
    }
    sum_of_sums << 16 | sum
}
