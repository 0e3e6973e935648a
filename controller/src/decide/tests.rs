//! Tests of decisions: each rule by itself, then a seeded simulation of brokers and administrators.

mod brokers;
mod cluster;
mod configs;
mod damage;
mod elections;
mod isr;
mod scale;
mod simulation;
mod topics;
