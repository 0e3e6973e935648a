//! Compiles the `.proto` files with a compiler written in Rust, so that users need no `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["record", "common", "client", "admin", "replica", "controller", "raft"]
        .map(|name| format!("proto/vltava/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SizedCodec")
        // Taken apart one record at a time: see `src/plain.rs`.
        .extern_path(".vltava.v1.PlainRecords", "crate::plain::PlainRecords")
        .protoc_arg("--experimental_allow_proto3_optional")
        .compile_fds(descriptors)?;
    Ok(())
}
