//! `BatchUpdateUserDetails`: many updates, all or none or each on its own.

use prost::Message;
use tonic::Extensions;

use super::{
    auth::Caller,
    errors,
    layers::elements::MAX_BATCH_SIZE,
    user_details::{UserDetails, answer, origin, update},
};
use crate::{
    domain::{
        error::Error,
        identity::Scope,
        update::{Update, Updated},
    },
    proto::{
        BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, UpdateUserDetailsResponse,
        UpdateUserDetailsResult, UserDetails as Details,
        update_user_details_result::Result as UpdateResult,
    },
};

impl UserDetails {
    pub(super) async fn batch_update(
        &self,
        extensions: &Extensions,
        request: BatchUpdateUserDetailsRequest,
    ) -> Result<BatchUpdateUserDetailsResponse, Error> {
        let caller = Caller::identity(extensions)?;
        let acting_username = request.acting_username;
        let actor = caller.actor(Scope::Update, &acting_username)?;
        let origin = origin(&caller, extensions);
        if !(1..=MAX_BATCH_SIZE).contains(&request.requests.len()) {
            let problem = format!("must be 1 to {MAX_BATCH_SIZE} updates");
            return Err(Error::InvalidRequest { field: "requests", problem });
        }
        let updates = request.requests.into_iter().enumerate().map(|(index, one)| {
            let other = !one.acting_username.is_empty() && one.acting_username != acting_username;
            let one = if other {
                let problem = "must be empty, or that of the batch".to_owned();
                Err(Error::InvalidRequest { field: "acting_username", problem })
            } else {
                update(one, (actor.clone(), caller.fields()), origin.clone())
            };
            one.map_err(|error| (index, error))
        });
        let results = if request.allow_partial {
            self.update_each(updates).await
        } else {
            let in_batch = |(index, error)| Error::InBatch { index, error: Box::new(error) };
            let updates =
                updates.map(|update| update.map_err(in_batch)).collect::<Result<_, _>>()?;
            let stored = self.service.update_all(updates).await?;
            stored.into_iter().map(|updated| result(Ok(updated))).collect()
        };
        let limit = self.options.largest_message;
        Ok(shrink_to_limit(BatchUpdateUserDetailsResponse { results }, limit))
    }

    /// Applies the good updates of a batch, and answers all of them in their order.
    async fn update_each(
        &self,
        updates: impl Iterator<Item = Result<Update, (usize, Error)>>,
    ) -> Vec<UpdateUserDetailsResult> {
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for update in updates {
            match update {
                Ok(update) => good.push(update),
                Err(error) => refused.push(error),
            }
        }
        let mut stored = self.service.update_each(good).await.into_iter();
        let mut results = Vec::new();
        let mut refused = refused.into_iter().peekable();
        while let Some(outcome) = refused
            .next_if(|(index, _)| *index == results.len())
            .map(|(_, error)| Err(error))
            .or_else(|| stored.next())
        {
            results.push(result(outcome));
        }
        results
    }
}

/// Leaves old values out of an answer that is too large for a message, and then the details: an
/// update that is stored must not be answered by an error.
fn shrink_to_limit(
    mut answer: BatchUpdateUserDetailsResponse,
    limit: usize,
) -> BatchUpdateUserDetailsResponse {
    let without: [fn(&mut UpdateUserDetailsResponse); 2] = [
        |one| one.previous_details = None,
        |one| {
            let etag = one.user_details.take().unwrap_or_default().etag;
            one.user_details = Some(Details { etag, ..Details::default() });
        },
    ];
    for less in without {
        if answer.encoded_len() <= limit {
            break;
        }
        for result in &mut answer.results {
            if let Some(UpdateResult::Response(one)) = &mut result.result {
                less(one);
            }
        }
    }
    answer
}

/// A result of a batch.
fn result(outcome: Result<Updated, Error>) -> UpdateUserDetailsResult {
    let result = match outcome {
        Ok(updated) => UpdateResult::Response(answer(updated)),
        Err(error) => UpdateResult::Error(errors::item(&error)),
    };
    UpdateUserDetailsResult { result: Some(result) }
}
