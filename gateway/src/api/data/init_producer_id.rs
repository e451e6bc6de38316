//! InitProducerId (22), versions 0-5: a producer id for an idempotent producer.
//!
//! - Ids are reserved from the journal in blocks, so most calls cost no append; what a crash leaves of a block is skipped.
//! - Transactions are not supported: a transactional id is answered with UNSUPPORTED_VERSION, which clients show their user.
//!
//! Source: Kafka's `TransactionCoordinator.handleInitProducerId`, `ProducerIdManager`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use kafka_protocol::messages::{ApiKey, ProducerId};
use metadata::class::Classify;

use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct InitProducerId;

impl Handler for InitProducerId {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    type Request = InitProducerIdRequest;
    type Response = InitProducerIdResponse;

    async fn begin(context: &Context, request: InitProducerIdRequest) -> Pending<InitProducerIdResponse> {
        if request.transactional_id.is_some() {
            return Pending::ready(refused(ErrorCode::UnsupportedVersion));
        }
        // A plain idempotent producer always gets a new id, whatever it holds; so does Kafka.
        let services = context.services.clone();
        Pending::later(async move {
            match services.producer_ids.next().await {
                Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(0),
                Err(error) => refused(ErrorCode::of_class(error.class())),
            }
        })
    }

    fn error_code(response: &InitProducerIdResponse) -> i16 {
        response.error_code
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
