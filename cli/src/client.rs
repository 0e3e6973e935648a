//! The way to the cluster: a client made from the global flags, and what its errors mean to a command.

use std::time::Duration;

use vltava_client::{Admin, Client, ClientError, ClientOptions};
use vltava_model::ErrorCode;
use vltava_proto::status;
use vltava_proto::v1::ErrorDetail;

use crate::args::Context;
use crate::exit::{CliError, CliResult};

/// How long a command waits for one answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of the cluster that the flags name.
pub fn connect(context: &Context) -> CliResult<Client> {
    let options = ClientOptions { servers: context.servers.clone(), request_timeout: REQUEST_TIMEOUT };
    Client::with(options).map_err(CliError::usage)
}

/// An administrator of the cluster that the flags name.
pub fn admin(context: &Context) -> CliResult<Admin> {
    Ok(Admin::new(connect(context)?))
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let hint = match error.code() {
            ErrorCode::NetworkException => {
                "\n  is the cluster running, and is --server (or VLTAVA_SERVER) the address of a GRPC listener?"
            }
            _ => "",
        };
        Self::answered(error.code(), format!("{}: {}{hint}", error.code(), error.message()))
    }
}

/// The error that an answer carries for one of the things that were asked for.
pub fn refused(detail: &ErrorDetail) -> CliError {
    CliError::answered(status::code_of(detail), format!("{}: {}", detail.name, detail.message))
}

/// Remembers the first of several errors while the others are shown at once.
#[derive(Debug, Default)]
pub struct FirstError(Option<CliError>);

impl FirstError {
    /// Notes an error: the first is kept, a later one is printed.
    pub fn note(&mut self, error: CliError) {
        match self.0 {
            None => self.0 = Some(error),
            Some(_) => eprintln!("vltava: {error}"),
        }
    }

    /// The end of the command.
    pub fn end(self) -> CliResult {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;

    #[test]
    fn errors_say_what_to_do() {
        let error = CliError::from(ClientError::new(ErrorCode::NetworkException, "cannot reach h:1"));
        assert_eq!(error.failure(), Failure::Unavailable);
        assert!(error.to_string().contains("VLTAVA_SERVER"), "{error}");
        let unknown = refused(&status::detail(ErrorCode::UnknownTopicOrPartition, "no topic `x`"));
        assert_eq!(unknown.failure(), Failure::NotFound);
        assert_eq!(unknown.to_string(), "UNKNOWN_TOPIC_OR_PARTITION: no topic `x`");
    }
}
