//! `SettingsService`: converts requests, calls the domain, converts results.

use std::sync::Arc;

use prost_types::{FieldMask, Timestamp};
use tonic::{Extensions, Request, Response, Status};

use super::{
    administration::administrator, auth::Caller, call::unary, errors::invalid_request,
    layers::trace::Begun,
};
use crate::{
    domain::{
        error::Error,
        hash::Recipe,
        scope::Scope,
        service::Service,
        settings::{self, HashLimits},
    },
    networks::Networks,
    proto::{
        BrownoutWindow, GetSettingsRequest, GetSettingsResponse, HashRecipe, Settings,
        UpdateSettingsRequest, UpdateSettingsResponse, settings_service_server::SettingsService,
    },
    retirement::{Brownouts, Link, NotRetirement, PointInTime, Retirement, Window},
};

/// The handlers of `SettingsService`.
pub(super) struct SettingsSwitches {
    pub(super) service: Arc<Service>,
}

#[tonic::async_trait]
impl SettingsService for SettingsSwitches {
    async fn get_settings(
        &self,
        request: Request<GetSettingsRequest>,
    ) -> Result<Response<GetSettingsResponse>, Status> {
        unary!(self.get(request))
    }

    async fn update_settings(
        &self,
        request: Request<UpdateSettingsRequest>,
    ) -> Result<Response<UpdateSettingsResponse>, Status> {
        unary!(self.update(request))
    }
}

impl SettingsSwitches {
    async fn get(
        &self,
        extensions: &Extensions,
        request: GetSettingsRequest,
    ) -> Result<GetSettingsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Settings, &request.acting_username)?;
        let settings = self.service.settings(call, &actor).await?;
        Ok(GetSettingsResponse { settings: Some(to_proto(&settings)) })
    }

    async fn update(
        &self,
        extensions: &Extensions,
        request: UpdateSettingsRequest,
    ) -> Result<UpdateSettingsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Settings, &request.acting_username)?;
        let asked = request.settings.unwrap_or_default();
        let change = change(&asked, request.update_mask.as_ref())?;
        let by = administrator(&caller, extensions, &request.acting_username);
        let settings = self.service.update_settings(call, (&actor, &by), change).await?;
        Ok(UpdateSettingsResponse { settings: Some(to_proto(&settings)) })
    }
}

/// Converts a hash recipe to proto.
pub(super) fn recipe(recipe: Recipe) -> HashRecipe {
    match recipe {
        Recipe::UsernameUserId => HashRecipe::UUserId,
        Recipe::UserId => HashRecipe::UserId,
    }
}

/// Converts hash recipes from proto, without repetitions.
///
/// # Errors
/// [`Error::InvalidRequest`] for an unknown recipe.
pub(super) fn recipes(numbers: &[i32], field: &'static str) -> Result<Vec<Recipe>, Error> {
    let recipe = |number: &i32| match HashRecipe::try_from(*number) {
        Ok(HashRecipe::UUserId) => Ok(Recipe::UsernameUserId),
        Ok(HashRecipe::UserId) => Ok(Recipe::UserId),
        Ok(HashRecipe::Unspecified) | Err(_) => {
            Err(invalid_request(field, "must be known recipes"))
        }
    };
    let recipes: Vec<_> = numbers.iter().map(recipe).collect::<Result<_, _>>()?;
    Ok(Recipe::distinct(&recipes))
}

fn to_proto(settings: &settings::Settings) -> Settings {
    Settings {
        allow_api: Some(settings.allow_api),
        allow_get_api: Some(settings.allow_get_api),
        hash_recipes: settings.hash_recipes.iter().map(|own| recipe(*own).into()).collect(),
        allowed_networks: settings.allowed_networks.iter().collect(),
        deprecation: settings.retirement.deprecation.map(timestamp),
        sunset: settings.retirement.sunset.map(timestamp),
        retirement_link: settings.retirement.link.as_ref().map(|link| link.as_str().to_owned()),
        brownouts: settings.retirement.brownouts.iter().map(window).collect(),
        failed_hashes_per_address: Some(number(settings.hash_limits.per_address)),
        failed_hashes_per_username: Some(number(settings.hash_limits.per_username)),
        block_seconds: Some(number(settings.hash_limits.block_seconds)),
    }
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn timestamp(point: PointInTime) -> Timestamp {
    Timestamp { seconds: point.unix_seconds(), nanos: 0 }
}

fn window(window: Window) -> BrownoutWindow {
    BrownoutWindow {
        start_time: Some(timestamp(window.start())),
        end_time: Some(timestamp(window.end())),
    }
}

/// Parses the retirement. An empty link is none.
fn retirement(asked: &Settings) -> Result<Retirement, Error> {
    let invalid = |field| move |problem: NotRetirement| invalid_request(field, problem.to_string());
    let link = asked.retirement_link.as_deref().filter(|link| !link.is_empty());
    let windows = asked.brownouts.iter().map(|window| {
        let (start, end) = (point(window.start_time.as_ref())?, point(window.end_time.as_ref())?);
        let (Some(start), Some(end)) = (start, end) else { return Err(NotRetirement::Window) };
        Window::new(start, end)
    });
    let brownouts = windows.collect::<Result<_, _>>().and_then(Brownouts::of);
    Ok(Retirement {
        deprecation: point(asked.deprecation.as_ref()).map_err(invalid("settings.deprecation"))?,
        sunset: point(asked.sunset.as_ref()).map_err(invalid("settings.sunset"))?,
        link: link
            .map(str::parse::<Link>)
            .transpose()
            .map_err(invalid("settings.retirement_link"))?,
        brownouts: brownouts.map_err(invalid("settings.brownouts"))?,
    })
}

fn point(timestamp: Option<&Timestamp>) -> Result<Option<PointInTime>, NotRetirement> {
    let Some(timestamp) = timestamp else { return Ok(None) };
    if timestamp.nanos != 0 {
        return Err(NotRetirement::PointInTime);
    }
    PointInTime::from_unix_seconds(timestamp.seconds).map(Some)
}

/// The change that an update makes to the stored settings.
fn change(
    asked: &Settings,
    mask: Option<&FieldMask>,
) -> Result<impl FnOnce(settings::Settings) -> settings::Settings + Send + 'static, Error> {
    let mask = mask.filter(|mask| !mask.paths.is_empty());
    let names = [
        "*",
        "allow_api",
        "allow_get_api",
        "hash_recipes",
        "allowed_networks",
        "deprecation",
        "sunset",
        "retirement_link",
        "brownouts",
        "failed_hashes_per_address",
        "failed_hashes_per_username",
        "block_seconds",
    ];
    for (index, path) in mask.iter().flat_map(|mask| mask.paths.iter().enumerate()) {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        let name: String = path.chars().take(100).collect();
        if !names.contains(&path.as_str()) {
            return Err(invalid_request("update_mask", format!("the path {name:?} is no setting")));
        }
        if paths[..index].contains(path) {
            return Err(invalid_request(
                "update_mask",
                format!("the path {name:?} is named twice"),
            ));
        }
    }
    let recipes = recipes(&asked.hash_recipes, "settings.hash_recipes")?;
    let networks = Networks::of(asked.allowed_networks.iter().map(String::as_str));
    let networks = networks
        .map_err(|problem| invalid_request("settings.allowed_networks", problem.to_string()))?;
    let masked = |name: &str| {
        mask.is_some_and(|mask| mask.paths.iter().any(|path| path == "*" || path == name))
    };
    // Present and selected: the new value. In the mask but absent: the default.
    let default = settings::Settings::default();
    let choose = |name, given: Option<bool>, default: bool| {
        if masked(name) { Some(given.unwrap_or(default)) } else { given.filter(|_| mask.is_none()) }
    };
    let allow_api = choose("allow_api", asked.allow_api, default.allow_api);
    let allow_get_api = choose("allow_get_api", asked.allow_get_api, default.allow_get_api);
    let hash_recipes = match (recipes.is_empty(), masked("hash_recipes")) {
        (true, true) => Some(default.hash_recipes),
        (false, masked) if masked || mask.is_none() => Some(recipes),
        _ => None,
    };
    // An empty list without a path is not given.
    let chosen = |name: &str, given: bool| masked(name) || (mask.is_none() && given);
    let allowed_networks = chosen("allowed_networks", !networks.is_empty()).then_some(networks);
    let Retirement { deprecation, sunset, link, brownouts } = retirement(asked)?;
    let deprecation = chosen("deprecation", deprecation.is_some()).then_some(deprecation);
    let sunset = chosen("sunset", sunset.is_some()).then_some(sunset);
    let link = chosen("retirement_link", asked.retirement_link.is_some()).then_some(link);
    let brownouts = chosen("brownouts", !brownouts.is_empty()).then_some(brownouts);
    let choose = |name, given: Option<i32>, default: u32| {
        // A negative number is refused like one that is too large.
        let given = given.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        if masked(name) { Some(given.unwrap_or(default)) } else { given.filter(|_| mask.is_none()) }
    };
    let limits = default.hash_limits;
    let per_address =
        choose("failed_hashes_per_address", asked.failed_hashes_per_address, limits.per_address);
    let per_username =
        choose("failed_hashes_per_username", asked.failed_hashes_per_username, limits.per_username);
    let block_seconds = choose("block_seconds", asked.block_seconds, limits.block_seconds);
    Ok(move |stored: settings::Settings| settings::Settings {
        allow_api: allow_api.unwrap_or(stored.allow_api),
        allow_get_api: allow_get_api.unwrap_or(stored.allow_get_api),
        hash_recipes: hash_recipes.unwrap_or(stored.hash_recipes),
        allowed_networks: allowed_networks.unwrap_or(stored.allowed_networks),
        hash_limits: HashLimits {
            per_address: per_address.unwrap_or(stored.hash_limits.per_address),
            per_username: per_username.unwrap_or(stored.hash_limits.per_username),
            block_seconds: block_seconds.unwrap_or(stored.hash_limits.block_seconds),
        },
        retirement: Retirement {
            deprecation: deprecation.unwrap_or(stored.retirement.deprecation),
            sunset: sunset.unwrap_or(stored.retirement.sunset),
            link: link.unwrap_or(stored.retirement.link),
            brownouts: brownouts.unwrap_or(stored.retirement.brownouts),
        },
    })
}
