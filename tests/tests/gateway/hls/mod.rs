//! HLS as it is served.

mod cold;
mod players;
mod rules;
mod served;
