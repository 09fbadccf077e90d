//! Pictures for tests, drawn here.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use crate::node::objects::Format;

/// A picture of this size. Two of different size have different bytes.
pub(crate) fn drawn(width: u32, height: u32, format: Format) -> Vec<u8> {
    let byte = |number: u32| u8::try_from(number % 251).unwrap_or(0);
    let picture = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([byte(x), byte(y), byte(x / 8 + y / 8)])
    });
    let mut bytes = Vec::new();
    let format = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
    };
    picture
        .write_to(&mut Cursor::new(&mut bytes), format)
        .unwrap();
    bytes
}

/// A PNG of a few bytes whose header, which is sound, claims this size.
pub(crate) fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    // Eight bits, true colour, and no choice for the rest.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (length, chunk) in [(13_u32, header.as_slice()), (0, b"IDAT"), (0, b"IEND")] {
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(&crc32(chunk).to_be_bytes());
    }
    bytes
}

/// The checksum of a PNG chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            0xedb8_8320 ^ (crc >> 1)
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}
