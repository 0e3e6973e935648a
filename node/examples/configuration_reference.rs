//! Prints the reference of all properties of the config file.

fn main() {
    print!("{}", vltava_node::config::reference_markdown());
}
