//! HLS as it is served.

mod changes;
mod players;
mod rules;
mod served;
