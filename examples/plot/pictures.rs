//! Pictures as SVG, each from the text of a file.

mod input;
mod log;
mod log_picture;
pub mod rates;
pub mod spread;
mod svg;

pub use log::draw;
