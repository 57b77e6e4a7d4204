//! TensorBoard's `Event` message (tensorflow/core/util/event.proto), the part that scalars and images need:
//!
//! ```text
//! Event       1 wall_time: double   2 step: int64
//!             3 file_version: string | 5 summary: Summary | 7 session_log: SessionLog
//! Summary     1 value: repeated Value
//! Value       1 tag: string         2 simple_value: float | 4 image: Image
//! Image       1 height: int32       2 width: int32      3 colorspace: int32, 3 = RGB
//!             4 encoded_image_string: bytes
//! SessionLog  1 status: enum, START = 1
//! ```

/// What happened.
pub(super) enum What<'a> {
    /// The first event of every file.
    FileVersion,
    Scalars(&'a [(String, f64)]),
    Image(&'a EncodedImage<'a>),
    /// A training was resumed here: readers drop this step and later ones from earlier files.
    Start,
}

/// A PNG with its tag.
pub(super) struct EncodedImage<'a> {
    pub tag: &'a str,
    /// Height and width.
    pub size: [usize; 2],
    pub png: &'a [u8],
}

const VERSION: &str = "brain.Event:2";

/// The colours of an image.
const RGB: usize = 3;

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// The message.
///
/// - wall_time: seconds since 1970
pub(super) fn encoded(wall_time: f64, step: usize, what: &What) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED_64);
    event.extend(wall_time.to_le_bytes());
    key(&mut event, 2, VARINT);
    varint(&mut event, step as u64);
    match what {
        What::FileVersion => bytes(&mut event, 3, VERSION.as_bytes()),
        What::Scalars(scalars) => {
            let mut summary = Vec::new();
            for (tag, value) in *scalars {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, tag.as_bytes());
                key(&mut entry, 2, FIXED_32);
                entry.extend((*value as f32).to_le_bytes());
                bytes(&mut summary, 1, &entry);
            }
            bytes(&mut event, 5, &summary);
        }
        What::Image(EncodedImage { tag, size, png }) => {
            let mut image = Vec::new();
            for (field, number) in [(1, size[0]), (2, size[1]), (3, RGB)] {
                key(&mut image, field, VARINT);
                varint(&mut image, number as u64);
            }
            bytes(&mut image, 4, png);
            let (mut summary, mut entry) = (Vec::new(), Vec::new());
            bytes(&mut entry, 1, tag.as_bytes());
            bytes(&mut entry, 4, &image);
            bytes(&mut summary, 1, &entry);
            bytes(&mut event, 5, &summary);
        }
        What::Start => {
            let mut session = Vec::new();
            key(&mut session, 1, VARINT);
            varint(&mut session, 1);
            bytes(&mut event, 7, &session);
        }
    }
    event
}

fn key(message: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(message, field << 3 | wire_type);
}

fn bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(message, field, BYTES);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits a byte, the lowest first; all but the last have the highest bit set.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
