//! Photos that nobody took: drawn from a seed and really encoded.

use std::io::Cursor;

use fastrand::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageEncoder, ImageResult, Rgb, RgbImage};

/// The two formats that cameras and screens make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
        }
    }
}

/// Draws a sky with some discs in it and encodes it. The same seed and size give the same bytes.
///
/// # Errors
///
/// When the encoder refuses the size, such as 0 by 0.
pub(crate) fn draw(seed: u64, width: u32, height: u32, format: Format) -> ImageResult<Vec<u8>> {
    const DISCS: usize = 5;
    let mut chance = Rng::with_seed(seed);
    let mut colour = || [(); 3].map(|()| i64::from(chance.u8(..)));
    let (top, bottom) = (colour(), colour());
    let colours = [(); DISCS].map(|()| colour());
    let discs = colours.map(|colour| {
        let x = i64::from(chance.u32(0..width.max(1)));
        let y = i64::from(chance.u32(0..height.max(1)));
        let radius = i64::from(chance.u32(1..=(width.max(height) / 6).max(1)));
        (x, y, radius * radius, colour)
    });
    let last = i64::from(height.max(2) - 1);
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let disc = discs
            .iter()
            .find(|(dx, dy, square, _)| (x - dx).pow(2) + (y - dy).pow(2) <= *square);
        let mix = |part: usize| match disc {
            Some((.., colour)) => colour[part],
            None => (top[part] * (last - y) + bottom[part] * y) / last,
        };
        Rgb([0, 1, 2].map(|part| u8::try_from(mix(part)).unwrap_or(u8::MAX)))
    });
    let mut bytes = Cursor::new(Vec::new());
    let (raw, kind) = (picture.as_raw(), image::ExtendedColorType::Rgb8);
    match format {
        Format::Jpeg => {
            JpegEncoder::new_with_quality(&mut bytes, 85).write_image(raw, width, height, kind)?;
        }
        Format::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub)
                .write_image(raw, width, height, kind)?;
        }
    }
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_real_and_a_seed_is_a_picture() {
        for format in [Format::Jpeg, Format::Png] {
            let bytes = draw(5, 97, 61, format).unwrap();
            let decoded = image::load_from_memory(&bytes).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (97, 61));
            assert_eq!(draw(5, 97, 61, format).unwrap(), bytes);
            assert_ne!(draw(6, 97, 61, format).unwrap(), bytes);
        }
        assert!(draw(1, 1, 1, Format::Png).is_ok());
    }
}
