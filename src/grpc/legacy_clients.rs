//! The clients of `LegacyService`: convert, call, convert.

use std::mem::take;

use tonic::Extensions;

use super::{
    auth::Caller,
    convert::timestamp,
    layers::trace::Begun,
    legacy_service::LegacyCalls,
    paging::{Paged, time},
};
use crate::{
    domain::{
        error::Error,
        legacy_client::ClientId,
        legacy_client_store::{self, ClientQuery},
        listing::{Cursor, Listed},
        page_token::Purpose,
        scope::Scope,
    },
    proto::{LegacyClient, ListLegacyClientsRequest, ListLegacyClientsResponse},
};

impl LegacyCalls {
    pub(super) async fn list_clients(
        &self,
        extensions: &Extensions,
        mut request: ListLegacyClientsRequest,
    ) -> Result<ListLegacyClientsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let page = (take(&mut request.page_size), take(&mut request.page_token));
        let (paged, after) =
            Paged::begin((&self.service, call), Purpose::ListLegacyClients, &request, page).await?;
        let query = ClientQuery {
            since: time(request.since, "since")?,
            after: after.map(|after| (after.update_time, after.username)),
            limit: paged.limit(),
        };
        self.service.store.administer(call, &actor).await?;
        let items = self.service.store.legacy_clients(call, &query).await?;
        let position = |client: &legacy_client_store::LegacyClient| Cursor {
            username: client.id.digest(),
            update_time: client.last.timestamp_micros(),
            id: 0,
        };
        let listed = Listed { items, is_cut: false };
        let (clients, next_page_token) =
            paged.page(listed, self.largest_message, position, to_proto);
        Ok(ListLegacyClientsResponse { clients, next_page_token })
    }
}

fn to_proto(client: legacy_client_store::LegacyClient) -> LegacyClient {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let ClientId { key, network, username } = client.id;
    LegacyClient {
        key,
        network,
        username,
        first_time: Some(timestamp(client.first)),
        last_time: Some(timestamp(client.last)),
        calls: count(client.calls),
        refused: count(client.refused),
        gets: count(client.gets),
        failed_hashes: count(client.failed_hashes),
        recipe: client.recipe,
        fields: client.fields,
    }
}
