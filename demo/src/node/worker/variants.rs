//! From an uploaded image to its sizes: bytes in, bytes out, bounded in memory whatever comes.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::node::objects::Format;

/// The longest edges of the variants, largest first: each is made from the one before it.
const EDGES: [u32; 3] = [1024, 256, 64];
/// The most pixels that an image may have. A phone's photo has twelve million.
const PIXELS_MAX: u64 = 1 << 24;
/// The longest edge that an image may have.
const EDGE_MAX: u32 = 16_384;
/// Bytes that a decoder may hold: what [`PIXELS_MAX`] take at four channels, and as much again.
const DECODE_BYTES_MAX: u64 = 128 << 20;
const JPEG_QUALITY: u8 = 82;

/// One size of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) bytes: Bytes,
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Makes the variants, smallest first. The same bytes give the same variants each time. What the camera
/// wrote beside the picture (place, time, device) does not come along; how it was held does.
///
/// # Errors
/// Why these bytes are no image that can be processed, in words for the one who uploaded it.
pub(crate) fn variants(upload: &[u8]) -> Result<Vec<Made>, String> {
    let format = Format::sniff(upload).ok_or("the file is neither PNG nor JPEG")?;
    let mut image = decode(upload, format)?;
    let mut made = Vec::with_capacity(EDGES.len());
    for edge in EDGES {
        // A small image is not blown up.
        if image.width().max(image.height()) > edge {
            image = image.resize(edge, edge, FilterType::Triangle);
        }
        made.push(Made {
            bytes: encode(&image, format)?,
            format,
            width: image.width(),
            height: image.height(),
        });
    }
    made.reverse();
    Ok(made)
}

/// Looks at the header alone: whether the image can be processed as far as that tells. An image that
/// claims to be huge costs nothing.
///
/// # Errors
/// As [`variants`].
pub(crate) fn check_header(upload: &[u8], format: Format) -> Result<(), String> {
    open(upload, format).map(drop)
}

fn unreadable(error: ImageError) -> String {
    format!("the image cannot be read: {error}")
}

/// A decoder that has read the header and found its sizes within the bounds.
fn open(upload: &[u8], format: Format) -> Result<impl ImageDecoder + '_, String> {
    let mut reader = ImageReader::new(Cursor::new(upload));
    reader.set_format(match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
    });
    let mut limits = Limits::default();
    limits.max_image_width = Some(EDGE_MAX);
    limits.max_image_height = Some(EDGE_MAX);
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Limits(_) => too_large(&format!("an edge is longer than {EDGE_MAX} pixels")),
        error => unreadable(error),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODE_BYTES_MAX
    {
        return Err(too_large(&format!(
            "{width} x {height} pixels are more than {PIXELS_MAX}"
        )));
    }
    Ok(decoder)
}

fn decode(upload: &[u8], format: Format) -> Result<DynamicImage, String> {
    let mut decoder = open(upload, format)?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| match error {
        ImageError::Limits(_) => too_large("it takes too much memory"),
        error => unreadable(error),
    })?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn too_large(why: &str) -> String {
    format!("the image is too large: {why}")
}

fn encode(image: &DynamicImage, format: Format) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    match format {
        Format::Png => image.write_with_encoder(PngEncoder::new(&mut bytes)),
        Format::Jpeg => image
            .to_rgb8()
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)),
    }
    .map_err(|error| format!("a smaller size cannot be written: {error}"))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::worker::pictures;

    #[test]
    fn three_sizes_are_made_smallest_first_and_none_is_blown_up() {
        for format in [Format::Png, Format::Jpeg] {
            let made = variants(&pictures::drawn(1500, 500, format)).unwrap();
            let sizes: Vec<_> = made.iter().map(|one| (one.width, one.height)).collect();
            assert_eq!(sizes, [(64, 21), (256, 85), (1024, 341)]);
            assert!(
                made.iter()
                    .all(|one| Format::sniff(&one.bytes) == Some(format))
            );
            assert_eq!(variants(&pictures::drawn(1500, 500, format)).unwrap(), made);
        }
        let made = variants(&pictures::drawn(100, 10, Format::Png)).unwrap();
        let sizes: Vec<_> = made.iter().map(|one| (one.width, one.height)).collect();
        assert_eq!(sizes, [(64, 6), (100, 10), (100, 10)]);
    }

    #[test]
    fn a_very_narrow_image_keeps_a_pixel() {
        let made = variants(&pictures::drawn(9000, 1, Format::Png)).unwrap();
        assert_eq!((made[0].width, made[0].height), (64, 1));
    }

    #[test]
    fn an_image_that_claims_to_be_huge_is_refused_by_its_header() {
        for (width, height) in [(50_000, 50_000), (16_000, 16_000), (u32::MAX >> 1, 1)] {
            let refused = variants(&pictures::bomb(width, height)).unwrap_err();
            assert!(refused.starts_with("the image is too large"), "{refused}");
        }
    }

    #[test]
    fn damaged_images_are_refused_with_a_reason_wherever_they_end() {
        let whole = pictures::drawn(64, 64, Format::Png);
        for end in [8, 12, 20, 33, 40, whole.len() / 2, whole.len() - 20] {
            let refused = variants(&whole[..end]).unwrap_err();
            assert!(refused.starts_with("the image cannot be read"), "{refused}");
        }
        let whole = pictures::drawn(64, 64, Format::Jpeg);
        for end in [3, 4, 20, 100] {
            let refused = variants(&whole[..end]).unwrap_err();
            assert!(refused.starts_with("the image cannot be read"), "{refused}");
        }
        assert!(
            variants(b"GIF89a")
                .unwrap_err()
                .contains("neither PNG nor JPEG")
        );
    }

    #[test]
    fn random_damage_never_panics() {
        let mut random = fastrand::Rng::with_seed(7);
        for format in [Format::Png, Format::Jpeg] {
            let whole = pictures::drawn(96, 64, format);
            for round in 0..300 {
                let mut bytes = whole.clone();
                for _ in 0..=random.usize(..4) {
                    let place = random.usize(..bytes.len());
                    bytes[place] = random.u8(..);
                }
                let ended = std::panic::catch_unwind(|| variants(&bytes).is_ok());
                assert!(ended.is_ok(), "seed 7, round {round}");
            }
        }
    }
}
