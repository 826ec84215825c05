//! HLS as it is served.

mod players;
mod rules;
mod served;
