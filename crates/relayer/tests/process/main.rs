//! The built program, as its user has it: crashes, real events, starts that cannot work, stopping in order.

mod corpus;
mod crash;
mod program;
mod start;
mod stop;
