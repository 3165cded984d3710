//! The blocks of `LegacyService`: convert, call, convert.

use std::mem::take;

use chrono::SubsecRound;
use tonic::Extensions;

use super::{
    administration::administrator,
    auth::Caller,
    convert::timestamp,
    errors::invalid_request,
    layers::trace::Begun,
    legacy_service::LegacyCalls,
    paging::{Paged, time},
};
use crate::{
    domain::{
        error::Error,
        legacy_block::{self, Target},
        listing::{Cursor, Listed},
        page_token::Purpose,
        scope::Scope,
    },
    proto::{
        AddLegacyBlockRequest, AddLegacyBlockResponse, LegacyBlock, LiftLegacyBlockRequest,
        LiftLegacyBlockResponse, ListLegacyBlocksRequest, ListLegacyBlocksResponse,
        legacy_block as block, lift_legacy_block_request as lift,
    },
};

impl LegacyCalls {
    pub(super) async fn list_blocks(
        &self,
        extensions: &Extensions,
        mut request: ListLegacyBlocksRequest,
    ) -> Result<ListLegacyBlocksResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let page = (take(&mut request.page_size), take(&mut request.page_token));
        let (paged, after) =
            Paged::begin((&self.service, call), Purpose::ListLegacyBlocks, &request, page).await?;
        let after = after.map(|after| (after.update_time, after.username));
        let now = self.service.clock.now();
        let blocks = self.service.blocks(call, &actor).await?;
        let items = blocks.legacy_blocks(call, now, after, paged.limit()).await?;
        let position = |block: &legacy_block::LegacyBlock| Cursor {
            username: block.id(),
            update_time: block.create_time.timestamp_micros(),
            id: 0,
        };
        let listed = Listed { items, is_cut: false };
        let (blocks, next_page_token) =
            paged.page(listed, self.largest_message, position, to_proto);
        Ok(ListLegacyBlocksResponse { blocks, next_page_token })
    }

    pub(super) async fn add_block(
        &self,
        extensions: &Extensions,
        request: AddLegacyBlockRequest,
    ) -> Result<AddLegacyBlockResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let LegacyBlock { target, expire_time, .. } = request.block.unwrap_or_default();
        let target = match target {
            Some(block::Target::Address(address)) => of_address(&address, "block.address"),
            Some(block::Target::Username(username)) => of_username(&username, "block.username"),
            None => Err(invalid_request("block", "needs an address or a username")),
        }?;
        let create_time = self.service.clock.now().trunc_subsecs(6);
        let expire_time = time(expire_time, "block.expire_time")?;
        if expire_time.is_some_and(|end| end <= create_time) {
            return Err(invalid_request("block.expire_time", "must be in the future"));
        }
        let by = administrator(&caller, extensions, &request.acting_username);
        let blocks = self.service.blocks(call, &actor).await?;
        let identity = by.identity.clone();
        let is_automatic = false;
        let block =
            legacy_block::LegacyBlock { target, is_automatic, identity, create_time, expire_time };
        blocks.add_legacy_block(call, &by, block.clone()).await?;
        self.service.access_changed().await;
        Ok(AddLegacyBlockResponse { block: Some(to_proto(block)) })
    }

    pub(super) async fn lift_block(
        &self,
        extensions: &Extensions,
        request: LiftLegacyBlockRequest,
    ) -> Result<LiftLegacyBlockResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let target = match request.target {
            Some(lift::Target::Address(address)) => of_address(&address, "address"),
            Some(lift::Target::Username(username)) => of_username(&username, "username"),
            None => Err(invalid_request("target", "must be an address or a username")),
        }?;
        let by = administrator(&caller, extensions, &request.acting_username);
        let blocks = self.service.blocks(call, &actor).await?;
        let now = self.service.clock.now();
        let lifted = blocks.lift_legacy_blocks(call, (&by, now), &target).await?;
        self.service.guard.lift(&target, now);
        self.service.access_changed().await;
        if lifted { Ok(LiftLegacyBlockResponse {}) } else { Err(Error::BlockNotFound) }
    }
}

fn of_address(address: &str, field: &'static str) -> Result<Target, Error> {
    Target::of_address(address).ok_or_else(|| invalid_request(field, "must be an IP address"))
}

fn of_username(username: &str, field: &'static str) -> Result<Target, Error> {
    Target::of_username(username).ok_or_else(|| invalid_request(field, "must be a username"))
}

fn to_proto(block: legacy_block::LegacyBlock) -> LegacyBlock {
    let target = match &block.target {
        Target::Network(_) => block::Target::Address(block.target.shown().to_owned()),
        Target::Username(username) => block::Target::Username(username.clone()),
    };
    LegacyBlock {
        target: Some(target),
        create_time: Some(timestamp(block.create_time)),
        expire_time: block.expire_time.map(timestamp),
        automatic: block.is_automatic,
        identity: block.identity,
    }
}
