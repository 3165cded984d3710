//! The client keys of `LegacyService`: convert, call, convert.

use std::mem::take;

use secrecy::ExposeSecret;
use tonic::Extensions;

use super::{
    administration::administrator,
    auth::Caller,
    convert::timestamp,
    errors::invalid_request,
    layers::trace::Begun,
    legacy_service::LegacyCalls,
    paging::{Paged, time},
    settings,
};
use crate::{
    domain::{
        error::{Error, NotPermitted},
        identity::Identity,
        legacy_key::{self, Bindings},
        listing::{Cursor, Listed},
        page_token::Purpose,
        scope::Scope,
        service::client_keys::NewKey,
    },
    fields::FIELDS,
    networks::Networks,
    proto::{
        CreateLegacyKeyRequest, CreateLegacyKeyResponse, LegacyKey, ListLegacyKeysRequest,
        ListLegacyKeysResponse, RevokeLegacyKeysRequest, RevokeLegacyKeysResponse,
        RotateLegacyKeyRequest, RotateLegacyKeyResponse,
    },
};

impl LegacyCalls {
    pub(super) async fn create_key(
        &self,
        extensions: &Extensions,
        request: CreateLegacyKeyRequest,
    ) -> Result<CreateLegacyKeyResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        refuse_limited(&caller)?;
        let new = to_new(request.key.unwrap_or_default())?;
        let keys = self.service.client_keys(call, &actor).await?;
        let by = administrator(&caller, extensions, &request.acting_username);
        let (secret, key) = keys.create(call, &by, &*self.service.clock, new).await?;
        self.service.access_changed().await;
        let secret = secret.expose_secret().to_owned();
        Ok(CreateLegacyKeyResponse { key: Some(to_proto(key)), secret })
    }

    pub(super) async fn list_keys(
        &self,
        extensions: &Extensions,
        mut request: ListLegacyKeysRequest,
    ) -> Result<ListLegacyKeysResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let page = (take(&mut request.page_size), take(&mut request.page_token));
        let (paged, after) =
            Paged::begin((&self.service, call), Purpose::ListLegacyKeys, &request, page).await?;
        let after = after.map(|after| (after.update_time, after.username));
        let keys = self.service.client_keys(call, &actor).await?;
        let items = keys.store.legacy_keys(call, after, paged.limit()).await?;
        let position = |key: &legacy_key::LegacyKey| Cursor {
            username: key.id.clone(),
            update_time: key.create_time.timestamp_micros(),
            id: 0,
        };
        let listed = Listed { items, is_cut: false };
        let (keys, next_page_token) = paged.page(listed, self.largest_message, position, to_proto);
        Ok(ListLegacyKeysResponse { keys, next_page_token })
    }

    pub(super) async fn revoke_keys(
        &self,
        extensions: &Extensions,
        request: RevokeLegacyKeysRequest,
    ) -> Result<RevokeLegacyKeysResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let keys = self.service.client_keys(call, &actor).await?;
        let by = administrator(&caller, extensions, &request.acting_username);
        let (name, now) = (&request.key_id_or_name, self.service.clock.now());
        let revoked = keys.store.revoke_legacy_keys(call, &by, name, now).await?;
        self.service.access_changed().await;
        match i32::try_from(revoked).unwrap_or(i32::MAX) {
            0 => Err(Error::KeyNotFound),
            revoked => Ok(RevokeLegacyKeysResponse { revoked }),
        }
    }

    pub(super) async fn rotate_key(
        &self,
        extensions: &Extensions,
        request: RotateLegacyKeyRequest,
    ) -> Result<RotateLegacyKeyResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        refuse_limited(&caller)?;
        let keys = self.service.client_keys(call, &actor).await?;
        let by = administrator(&caller, extensions, &request.acting_username);
        let (clock, name) = (&*self.service.clock, &request.key_id_or_name);
        let (secret, key) = keys.rotate(call, &by, clock, name).await?;
        self.service.access_changed().await;
        let secret = secret.expose_secret().to_owned();
        Ok(RotateLegacyKeyResponse { key: Some(to_proto(key)), secret })
    }
}

/// Refuses a caller that may change only some fields: a new key can change others.
fn refuse_limited(caller: &Identity) -> Result<(), Error> {
    match caller.fields() {
        Some(_) => Err(NotPermitted::ClientKey.into()),
        None => Ok(()),
    }
}

fn to_new(key: LegacyKey) -> Result<NewKey, Error> {
    let is_known = |path: &String| FIELDS.iter().any(|field| field.is_within(path));
    if key.fields.iter().any(|path| path == "*" || !is_known(path)) {
        return Err(invalid_request("key.fields", "must be fields or groups"));
    }
    let networks = Networks::of(key.networks.iter().map(String::as_str));
    let networks =
        networks.map_err(|problem| invalid_request("key.networks", problem.to_string()))?;
    let recipes = settings::recipes(&key.recipes, "key.recipes")?;
    let bindings = Bindings {
        username: key.username,
        networks,
        fields: (!key.fields.is_empty()).then(|| key.fields.join(" ")),
        recipes: (!recipes.is_empty()).then_some(recipes),
    };
    Ok(NewKey { name: key.name, bindings, expire_time: time(key.expire_time, "key.expire_time")? })
}

fn to_proto(key: legacy_key::LegacyKey) -> LegacyKey {
    let Bindings { username, networks, fields, recipes } = key.bindings;
    let recipes = recipes.into_iter().flatten();
    LegacyKey {
        key_id: key.id,
        name: key.name,
        username,
        networks: networks.iter().collect(),
        fields: fields.iter().flat_map(|paths| paths.split(' ')).map(str::to_owned).collect(),
        recipes: recipes.map(|recipe| settings::recipe(recipe).into()).collect(),
        create_time: Some(timestamp(key.create_time)),
        expire_time: key.expire_time.map(timestamp),
        revoke_time: key.revoke_time.map(timestamp),
    }
}
