//! A PostgreSQL primary with a synchronous standby that is promoted manually.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    alone,
    load::Load,
    program::Program,
    relay::{Line, Relay},
    rounds, stored,
    support::{
        database::{Kind, TestDatabase},
        server::Server,
        until,
    },
};

/// The deadline of calls: longer than [`PARTITION`].
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the standby is isolated, and how long an old primary goes on: longer than the statement
/// timeout of a session.
const PARTITION: Duration = Duration::from_secs(14);
/// Data in flight may still arrive after the standby is isolated.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Two servers, each with a relay to which its standby connects.
struct Pair {
    servers: [Server; 2],
    relays: [Relay; 2],
    /// The index of the primary.
    primary: usize,
}

impl Pair {
    /// Starts both servers. `None` if PostgreSQL is not installed.
    async fn start() -> Option<Self> {
        let primary = Server::postgres(&[])?;
        let primary_relay = Relay::to(format!("127.0.0.1:{}", primary.port), Line::Open).await;
        let relay_port = primary_relay.address.port();
        let standby = tokio::task::spawn_blocking(move || Server::standby(relay_port));
        let standby = standby.await.unwrap()?;
        let standby_relay = Relay::to(format!("127.0.0.1:{}", standby.port), Line::Open).await;
        let servers = [primary, standby];
        let pair = Self { servers, relays: [primary_relay, standby_relay], primary: 0 };
        pair.wait_for_standby().await;
        pair.server(0).execute("CREATE DATABASE m4").await;
        Some(pair)
    }

    /// The database URL of a replica: both servers, in their order.
    fn url(&self) -> String {
        let [first, second] = self.servers.each_ref().map(|server| server.port);
        let hosts = format!("127.0.0.1:{first},127.0.0.1:{second}");
        format!("postgres://postgres@{hosts}/m4?target_session_attrs=read-write")
    }

    fn database(&self, number: usize) -> TestDatabase {
        let url = self.servers[number].url("postgres://postgres", "m4");
        TestDatabase { kind: Kind::Postgres, url }
    }

    fn server(&self, number: usize) -> TestDatabase {
        let url = self.servers[number].url("postgres://postgres", "postgres");
        TestDatabase { kind: Kind::Postgres, url }
    }

    fn standby(&self) -> usize {
        1 - self.primary
    }

    /// Promotes the standby like an operator. Commits wait for no standby, as none is left.
    async fn promote(&mut self) {
        let standby = self.server(self.standby());
        standby.execute("ALTER SYSTEM SET synchronous_standby_names = ''").await;
        standby.execute("SELECT pg_reload_conf()").await;
        standby.execute("SELECT pg_promote()").await;
        self.primary = self.standby();
    }

    /// Makes the old primary, which must be down, the synchronous standby.
    async fn rejoin(&mut self) {
        let (standby, relay) = (self.standby(), self.relays[self.primary].address.port());
        // The relay runs on the test's runtime, which must not block.
        tokio::task::block_in_place(|| self.servers[standby].restart_as_standby(relay));
        self.wait_for_standby().await;
    }

    /// Makes commits wait for the standby, and waits until the standby is synchronous.
    async fn wait_for_standby(&self) {
        let primary = self.server(self.primary);
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        primary.execute("SELECT pg_reload_conf()").await;
        let state = "SELECT COALESCE(max(sync_state), '') FROM pg_stat_replication \
                     WHERE state = 'streaming'";
        until("the standby is synchronous", || async {
            primary.try_text(state).await.is_ok_and(|state| state == "sync")
        })
        .await;
    }

    /// Checks that the standby holds the same data as the primary.
    async fn check_equal(&self) {
        let expected = stored::read(&self.database(self.primary)).await;
        until("the standby holds the same", || async {
            stored::read(&self.database(self.standby())).await == expected
        })
        .await;
    }
}

/// Starts a replica with a database URL.
async fn replica(url: String) -> Program {
    let database = TestDatabase { kind: Kind::Postgres, url };
    let deadline = DEADLINE.as_secs().to_string();
    Program::demo(&database, &[("M4_DEADLINE_SECONDS", &deadline)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_survive_the_promotion_of_a_synchronous_standby() {
    let _alone = alone().await;
    let Some(mut pair) = Pair::start().await else { return };
    let programs = vec![replica(pair.url()).await, replica(pair.url()).await];
    stored::insert_users(&pair.database(0)).await;
    let mut load = Load::start("PostgreSQL with a standby", &programs, DEADLINE).await;
    for _ in 0..rounds() {
        for name in ["kill -9 of the primary, promotion", "kill -9 of the new primary, promotion"] {
            let fault = load.fault(name);
            let primary = pair.primary;
            pair.servers[primary].kill();
            pair.promote().await;
            load.recovered(fault).await;

            let fault = load.fault("its return as the synchronous standby");
            pair.rejoin().await;
            load.recovered(fault).await;
        }
        partition(&pair, &mut load).await;
        split_brain(&mut pair, &mut load).await;
    }
    load.finish(&pair.database(pair.primary), &programs).await;
    pair.check_equal().await;
}

/// Isolates the standby. Nothing is acknowledged meanwhile.
async fn partition(pair: &Pair, load: &mut Load) {
    let relay = &pair.relays[pair.primary];
    relay.set(Line::Stalled);
    sleep(ON_ITS_WAY).await;
    let begun = Instant::now();
    sleep(PARTITION).await;
    let acknowledged = load.acknowledged_since(begun, None);
    assert_eq!(acknowledged, 0, "updates were acknowledged without the standby");
    let fault = load.fault("the standby is there again after it was cut off");
    relay.set(Line::Open);
    load.recovered(fault).await;
}

/// Freezes the primary, promotes the standby, and thaws the old primary. A replica that still
/// writes to the old primary gets no acknowledgement.
async fn split_brain(pair: &mut Pair, load: &mut Load) {
    let old = pair.primary;
    let straggler = replica(pair.database(old).url).await;
    let city = straggler.read(3).await.address.unwrap().city.unwrap();
    let (begun, others) = (Instant::now(), load.write_on(&straggler));
    until("the replica writes to the primary", || async {
        load.acknowledged_since(begun, Some(others.index)) > 0
    })
    .await;

    let fault = load.fault("the primary is frozen, promotion");
    pair.servers[old].freeze();
    pair.promote().await;
    load.recovered(fault).await;

    let fault = load.fault("the old primary goes on beside the new one");
    load.split_brain(true);
    pair.servers[old].thaw();
    sleep(ON_ITS_WAY).await;
    let begun = Instant::now();
    sleep(PARTITION).await;
    let acknowledged = load.acknowledged_since(begun, Some(others.index));
    assert_eq!(acknowledged, 0, "the old primary has acknowledged updates");
    // The old primary cannot know whether this city is still current.
    let unchanged = straggler.set_city(&city, "").await;
    assert!(unchanged.is_err(), "the old primary has acknowledged an update that changes nothing");
    load.recovered(fault).await;

    let fault = load.fault("the old primary is killed, its return as the standby");
    pair.servers[old].kill();
    pair.rejoin().await;
    load.recovered(fault).await;
    load.split_brain(false);
    others.stop().await;
}
