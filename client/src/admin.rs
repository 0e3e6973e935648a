//! Administration: a thin, typed way to the `Admin` service that any broker (or controller) serves.

use std::pin::Pin;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vltava_model::{ErrorCode, TopicId};
use vltava_proto::v1::admin_client::AdminClient;
use vltava_proto::v1::*;

use crate::backoff::Backoff;
use crate::channel::MAX_MESSAGE_BYTES;
use crate::cluster::Client;
use crate::error::{Certainty, ClientError};

/// Changes and describes a cluster.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

/// One attempt. Boxed, so that a task of any runtime may await what an administrator does.
type Call<'a, T> = dyn Fn(AdminClient<Channel>, Duration) -> Answer<T> + Send + Sync + 'a;
type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// Asks one server after the other until one answers. A call whose outcome is unknown is not repeated: repeating it
/// could do its work twice.
macro_rules! ask {
    ($self:ident, $method:ident, $request:expr) => {{
        let message = $request;
        $self
            .ask(&|mut admin: AdminClient<Channel>, timeout| {
                let mut request = Request::new(message.clone());
                request.set_timeout(timeout);
                Box::pin(async move { admin.$method(request).await })
            })
            .await
    }};
}

impl Admin {
    /// An administrator that allows each call a minute.
    pub fn new(client: Client) -> Self {
        Self { client, timeout: Duration::from_secs(60) }
    }

    async fn ask<T>(&self, call: &Call<'_, T>) -> Result<T, ClientError> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        // A controller that was replaced meanwhile may have begun.
        let mut begun = false;
        loop {
            let mut last = None;
            for address in self.client.addresses() {
                let admin = AdminClient::new(self.client.channel(&address)?)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES);
                match call(admin, self.timeout).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if never_arrived(&status) => {
                        let message =
                            format!("cannot reach {address}: is it a running broker's gRPC address?");
                        let error = ClientError::new(ErrorCode::NetworkException, message);
                        last = Some(error.with_certainty(Certainty::NotDone));
                    }
                    Err(status) => {
                        let error = ClientError::from(status);
                        match error.code() {
                            ErrorCode::NotController | ErrorCode::BrokerNotAvailable => {
                                begun = true;
                                last = Some(error);
                            }
                            _ if begun => return Err(error.with_certainty(Certainty::Unknown)),
                            _ => return Err(error),
                        }
                    }
                }
            }
            let error =
                last.unwrap_or_else(|| ClientError::new(ErrorCode::NetworkException, "no server answers"));
            // Nobody to connect to is told soon; a cluster between two controllers is worth waiting for.
            let patience = if error.code() == ErrorCode::NetworkException {
                deadline - self.timeout * 9 / 10
            } else {
                deadline
            };
            if tokio::time::Instant::now() >= patience {
                return Err(if begun { error.with_certainty(Certainty::Unknown) } else { error });
            }
            backoff.wait().await;
        }
    }

    /// Creates topics; look into each result.
    ///
    /// # Errors
    /// When no server answers, or refuses the call as a whole.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<CreateTopicsResponse, ClientError> {
        let created: CreateTopicsResponse =
            ask!(self, create_topics, CreateTopicsRequest { topics: topics.clone(), validate_only })?;
        if !validate_only {
            for topic in created.topics.iter().filter(|topic| topic.error.is_none()) {
                self.client.changed(&topic.name, Some(&topic.topic_id), created.metadata_offset);
            }
        }
        Ok(created)
    }

    /// Creates one topic.
    ///
    /// # Errors
    /// When no server answers, or the topic can't be created.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, ClientError> {
        let created = self.create_topics(vec![topic], false).await?.topics.into_iter().next();
        let created =
            created.ok_or_else(|| ClientError::new(ErrorCode::UnknownServerError, "an empty answer"))?;
        match created.error {
            Some(error) => Err(error.into()),
            None => Ok(created),
        }
    }

    /// Deletes topics with all their records; look into each result.
    ///
    /// # Errors
    /// When no server answers, or refuses the call as a whole.
    pub async fn delete_topics(&self, names: Vec<String>) -> Result<DeleteTopicsResponse, ClientError> {
        let deleted: DeleteTopicsResponse =
            ask!(self, delete_topics, DeleteTopicsRequest { names: names.clone(), ..Default::default() })?;
        self.learn_deletions(&deleted);
        Ok(deleted)
    }

    /// Deletes the topic with this id: another one that has its name by now stays.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID` when there is none (any more); when no server answers, or refuses.
    pub async fn delete_topic_with_id(&self, id: TopicId) -> Result<(), ClientError> {
        let request =
            DeleteTopicsRequest { names: Vec::new(), topic_ids: vec![id.to_bytes().to_vec().into()] };
        let deleted: DeleteTopicsResponse = ask!(self, delete_topics, request.clone())?;
        self.learn_deletions(&deleted);
        match deleted.topics.into_iter().find_map(|topic| topic.error) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn learn_deletions(&self, deleted: &DeleteTopicsResponse) {
        for topic in deleted.topics.iter().filter(|topic| topic.error.is_none()) {
            self.client.changed(&topic.name, None, deleted.metadata_offset);
        }
    }

    /// Raises a topic's number of partitions.
    ///
    /// # Errors
    /// When no server answers, or refuses.
    pub async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<CreatePartitionsResponse, ClientError> {
        ask!(self, create_partitions, request.clone())
    }

    /// Describes topics; all when none is named.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn describe_topics(&self, names: Vec<String>) -> Result<Vec<TopicDescription>, ClientError> {
        Ok(ask!(self, describe_topics, DescribeTopicsRequest { names: names.clone() })?.topics)
    }

    /// Deletes the records of a partition below an offset (`None`: below the high watermark); asks the leader. Returns
    /// the new log start offset.
    ///
    /// # Errors
    /// When the leader does not answer, or refuses.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: u32,
        before: Option<u64>,
    ) -> Result<u64, ClientError> {
        self.client.refresh_topic(topic).await?;
        let mut pin = self.client.pin(topic).await?;
        let request = DeleteRecordsRequest {
            topic: topic.to_owned(),
            partition,
            before_offset: before,
            topic_id: pin.wire_id(),
        };
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        for _ in 0..20 {
            let leader = self.client.leader(&pin, vltava_model::PartitionIndex::new(partition));
            let outcome = match leader {
                Ok(leader) => self.delete_records_at(leader.node, request.clone()).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_retriable() => backoff.wait().await,
                outcome => return outcome,
            }
            // Records of a topic that was created anew under the name are not meant.
            self.client.look_after(&mut pin).await?;
        }
        Err(ClientError::new(ErrorCode::LeaderNotAvailable, format!("{topic}-{partition} found no leader")))
    }

    async fn delete_records_at(
        &self,
        node: vltava_model::NodeId,
        request: DeleteRecordsRequest,
    ) -> Result<u64, ClientError> {
        let address = self.client.broker_address(node).ok_or_else(|| {
            ClientError::new(
                ErrorCode::BrokerNotAvailable,
                format!("the address of broker {node} is not known"),
            )
        })?;
        let mut admin = AdminClient::new(self.client.channel(&address)?);
        let mut call = Request::new(request);
        call.set_timeout(self.client.request_timeout());
        Ok(admin.delete_records(call).await?.into_inner().log_start_offset)
    }

    /// Moves leaderships.
    ///
    /// # Errors
    /// When no server answers, or refuses the call as a whole.
    pub async fn elect_leaders(
        &self,
        request: ElectLeadersRequest,
    ) -> Result<ElectLeadersResponse, ClientError> {
        ask!(self, elect_leaders, request.clone())
    }

    /// Shows configs.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn describe_configs(
        &self,
        targets: Vec<ConfigTarget>,
    ) -> Result<Vec<ConfigDescription>, ClientError> {
        Ok(ask!(self, describe_configs, DescribeConfigsRequest { targets: targets.clone() })?.targets)
    }

    /// Sets and clears configs of one resource.
    ///
    /// # Errors
    /// When no server answers, or refuses.
    pub async fn alter_configs(
        &self,
        request: AlterConfigsRequest,
    ) -> Result<AlterConfigsResponse, ClientError> {
        ask!(self, alter_configs, request.clone())
    }

    /// Names brokers and the active controller.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        ask!(self, describe_cluster, DescribeClusterRequest {})
    }

    /// Forgets a broker that left for good.
    ///
    /// # Errors
    /// When no server answers, or refuses.
    pub async fn unregister_broker(&self, node_id: u32) -> Result<UnregisterBrokerResponse, ClientError> {
        ask!(self, unregister_broker, UnregisterBrokerRequest { node_id })
    }

    /// Shows the controller quorum.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn describe_quorum(&self) -> Result<DescribeQuorumResponse, ClientError> {
        ask!(self, describe_quorum, DescribeQuorumRequest {})
    }

    /// Makes a running controller a voter.
    ///
    /// # Errors
    /// When no server answers, or refuses.
    pub async fn add_voter(&self, node_id: u32, address: &str) -> Result<AddVoterResponse, ClientError> {
        ask!(self, add_voter, AddVoterRequest { node_id, address: address.to_owned() })
    }

    /// Takes the vote from a controller.
    ///
    /// # Errors
    /// When no server answers, or refuses.
    pub async fn remove_voter(
        &self,
        request: RemoveVoterRequest,
    ) -> Result<RemoveVoterResponse, ClientError> {
        ask!(self, remove_voter, request.clone())
    }
}

/// Whether the call certainly reached nobody: the connection could not be made.
fn never_arrived(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_may_administer() {
        let admin = Admin::new(Client::connect("127.0.0.1:1").expect("it is an address"));
        // That this compiles is the point; nobody needs to answer.
        tokio::spawn(async move { admin.describe_cluster().await }).abort();
    }
}
