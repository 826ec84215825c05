//! HLS as it is served.

// Tests begin in the order of their names, so the longest is the first.
mod changes;
mod players;
mod rules;
mod served;
