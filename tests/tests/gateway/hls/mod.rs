//! HLS as clients receive it.

mod cold;
mod players;
mod rules;
mod served;
