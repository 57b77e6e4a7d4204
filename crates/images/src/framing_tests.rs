//! Where crops lie and what is drawn; tests/golden.rs compares the pixels with torchvision's.

use super::*;

fn draw(index: u64) -> Draw {
    Draw {
        seed: 7,
        epoch: 2,
        index,
    }
}

/// Pixel `(x, y)` is `[x, y, 9]`.
fn coordinates(width: usize, height: usize) -> RgbImage {
    let pixels = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 9]))
        .collect();
    RgbImage::new(width, height, pixels)
}

#[test]
fn the_shorter_side_is_the_target_and_the_longer_is_rounded_down() {
    assert_eq!(covering([480, 640], [512, 512]), [512, 682]);
    assert_eq!(covering([640, 480], [512, 512]), [682, 512]);
    assert_eq!(covering([300, 300], [512, 512]), [512, 512]);
    // 832 · 2000 / 3000 would be 554 columns, so the columns decide.
    assert_eq!(covering([3000, 2000], [832, 1216]), [1824, 1216]);
    assert_eq!(covering([2000, 3000], [832, 1216]), [832, 1248]);
}

/// Margins of 5 and 7: Python rounds 2.5 to 2 and 3.5 to 4.
#[test]
fn the_middle_begins_where_torchvision_puts_it() {
    let placement = Framing::default().place([32, 37], [32, 32], draw(0));
    assert_eq!(placement.crop, [0, 2]);
    let placement = Framing::default().place([39, 32], [32, 32], draw(0));
    assert_eq!(placement.crop, [4, 0]);
}

#[test]
fn the_pixels_are_those_of_the_crop_from_minus_one_to_one() {
    let placement = Framing::default().place([4, 9], [4, 4], draw(0));
    assert_eq!(placement.crop, [0, 2]);
    let values = placement.pixels(&coordinates(9, 4)).unwrap();
    assert_eq!(values.len(), 3 * 16);
    assert_eq!(values[..4], [2, 3, 4, 5].map(value));
    assert_eq!(values[16..20], [0, 0, 0, 0].map(value));
    assert_eq!(values[28..32], [3, 3, 3, 3].map(value));
    assert_eq!((value(0), value(255)), (-1.0, 1.0));
}

#[test]
fn a_mirrored_image_is_cropped_after_it_is_mirrored() {
    let framing = Framing {
        crop: Crop::Random,
        flip: true,
        ..Framing::default()
    };
    let placements = (0..40).map(|index| framing.place([4, 9], [4, 4], draw(index)));
    let placement = { placements }
        .find(|placement| placement.mirrored && placement.crop[1] == 1)
        .expect("one in ten is so");
    let values = placement.pixels(&coordinates(9, 4)).unwrap();
    // Mirrored, the columns are 8 7 6 …, of which the crop begins at the second.
    assert_eq!(values[..4], [7, 6, 5, 4].map(value));
}

#[test]
fn a_random_crop_depends_on_seed_epoch_and_image_alone_and_reaches_both_ends() {
    let framing = Framing {
        crop: Crop::Random,
        flip: true,
        ..Framing::default()
    };
    let place = |draw| framing.place([64, 80], [64, 64], draw);
    assert_eq!(place(draw(3)), place(draw(3)));
    let lefts: Vec<usize> = (0..400).map(|index| place(draw(index)).crop[1]).collect();
    assert_eq!(lefts.iter().min(), Some(&0));
    assert_eq!(lefts.iter().max(), Some(&16));
    let other = Draw {
        epoch: 3,
        ..draw(0)
    };
    let of_epoch = |epoch: u64| -> Vec<Placement> {
        let draws = (0..20).map(|index| Draw {
            epoch,
            ..draw(index)
        });
        draws.map(place).collect()
    };
    assert_ne!(of_epoch(2), of_epoch(3));
    assert_eq!(of_epoch(3)[0], place(other));
}

/// Recorded once: another machine, or another release of rand, must draw the same, or a resumed run
/// would see other images.
#[test]
fn the_draws_are_the_same_everywhere() {
    let framing = Framing {
        crop: Crop::Random,
        flip: true,
        ..Framing::default()
    };
    let drawn = [0, 1, 2, 3, 4].map(|index| {
        let placement = framing.place([90, 64], [64, 64], draw(index));
        (placement.crop[0], placement.mirrored)
    });
    assert_eq!(drawn, RECORDED);
}

const RECORDED: [(usize, bool); 5] = [(11, false), (24, true), (24, true), (5, false), (1, true)];

#[test]
fn an_image_that_is_smaller_in_either_side_is_enlarged() {
    let enlarges = |original| {
        Framing::default()
            .place(original, [512, 512], draw(0))
            .enlarges()
    };
    assert!(!enlarges([512, 700]));
    assert!(enlarges([511, 700]) && enlarges([700, 511]) && enlarges([4000, 300]));
}

#[test]
fn the_conditions_of_sdxl_are_sizes_and_the_corner_of_the_crop() {
    let placement = Framing::default().place([600, 1000], [512, 768], draw(0));
    assert_eq!(placement.resized, [512, 853]);
    assert_eq!(
        placement.time_ids(),
        [600.0, 1000.0, 0.0, 42.0, 512.0, 768.0]
    );
}

#[test]
fn an_image_of_another_size_than_its_header_said_is_refused() {
    let placement = Framing::default().place([5, 9], [4, 4], draw(0));
    let error = placement
        .pixels(&coordinates(9, 4))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("says height 5 and width 9 and its pixels height 4 and width 9"),
        "{error}"
    );
}

#[test]
fn a_strip_that_would_become_absurdly_large_is_refused() {
    let placement = Framing::default().place([1, 200_000], [1024, 1024], draw(0));
    let image = RgbImage::new(200_000, 1, vec![0; 600_000]);
    let error = placement.pixels(&image).unwrap_err();
    assert!(matches!(error, ImageError::Size { .. }), "{error}");
}
