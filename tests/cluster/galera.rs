//! Three Galera nodes: behind HAProxy, and with a service replica on each of two nodes.

use std::time::Duration;

use crate::{
    alone,
    load::Load,
    program::Program,
    rounds, stored,
    support::{
        database::{Kind, TestDatabase},
        process::free_port,
        server::{Server, galera_provider, provider_options},
        until,
    },
};

const NODES: usize = 3;
/// The default deadline of calls.
const DEADLINE: Duration = Duration::from_secs(10);
/// The user of HAProxy's health check, created as in the containers.
const HEALTH: &str = include_str!("../../deploy/galera/health.sql");

/// The nodes of a Galera cluster.
struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts nodes with the containers' configuration. `None` if the programs are not installed.
    async fn start() -> Option<Self> {
        let provider = galera_provider()?;
        let groups: Vec<_> = (0..NODES).map(|_| free_port()).collect();
        let address = |group: &u16| format!("127.0.0.1:{group}");
        let addresses = groups.iter().map(address).collect::<Vec<_>>().join(",");
        let mut cluster = Self { nodes: Vec::new() };
        for (number, group) in groups.iter().enumerate() {
            let options = provider_options(*group);
            let configuration = replaced(
                include_str!("../../deploy/galera/galera.cnf"),
                &[
                    ("/usr/lib/galera/libgalera_smm.so", &provider.display().to_string()),
                    ("galera-1,galera-2,galera-3", &addresses),
                    ("pc.wait_prim_timeout=PT5M", &format!("pc.wait_prim_timeout=PT5M;{options}")),
                    // The containers' method, mariabackup, is a separate package.
                    ("wsrep_sst_method = mariabackup", "wsrep_sst_method = rsync"),
                ],
            );
            let is_first = number == 0;
            cluster.nodes.push(Server::galera_configured(&configuration, *group, is_first)?);
            cluster.until_synced(number).await;
        }
        let server = cluster.database(0, "mysql");
        for statement in HEALTH.lines().filter(|line| line.starts_with("CREATE")) {
            server.execute(statement).await;
        }
        server.execute("CREATE DATABASE m4").await;
        Some(cluster)
    }

    /// Starts HAProxy in front of the nodes, with the configuration of the containers.
    fn haproxy(&self) -> Option<Server> {
        let port = free_port();
        let node = |number: usize| format!("127.0.0.1:{}", self.nodes[number].port);
        let configuration = replaced(
            include_str!("../../deploy/haproxy.cfg"),
            &[
                // The DNS server of the container engine.
                ("resolvers docker\n    nameserver docker 127.0.0.11:53\n    hold valid 5s\n", ""),
                (" resolvers docker init-addr last,libc,none", ""),
                ("bind :3306", &format!("bind 127.0.0.1:{port}")),
                ("galera-1:3306", &node(0)),
                ("galera-2:3306", &node(1)),
                ("galera-3:3306", &node(2)),
            ],
        );
        Server::haproxy(&configuration, port)
    }

    fn database(&self, number: usize, name: &str) -> TestDatabase {
        let url = self.nodes[number].url("mysql://root", name);
        TestDatabase { kind: Kind::MariaDb, url }
    }

    async fn status(&self, number: usize, variable: &str) -> Option<String> {
        let query = format!(
            "SELECT variable_value FROM information_schema.global_status \
             WHERE variable_name = 'wsrep_{variable}'"
        );
        self.database(number, "mysql").try_text(&query).await.ok()
    }

    /// Waits until a node is synced with the primary component.
    async fn until_synced(&self, number: usize) {
        until("the node is synced", || async {
            self.status(number, "local_state_comment").await.as_deref() == Some("Synced")
                && self.status(number, "cluster_status").await.as_deref() == Some("Primary")
        })
        .await;
    }

    /// Waits until a node sees this many nodes.
    async fn until_size(&self, number: usize, size: usize) {
        let size = size.to_string();
        until("the cluster has another size", || async {
            self.status(number, "cluster_size").await.as_ref() == Some(&size)
        })
        .await;
    }

    /// Waits until a node is back in the cluster.
    async fn until_back(&self, number: usize) {
        self.until_size((number + 1) % NODES, NODES).await;
        self.until_synced(number).await;
    }

    /// Waits until HAProxy sends every connection to the first node.
    async fn until_moved_back(&self) {
        let query = "SELECT CAST(count(*) AS CHAR) FROM information_schema.processlist \
                     WHERE db = 'm4'";
        until("the first node has every connection", || async {
            let mut counts = Vec::new();
            for number in 0..NODES {
                counts.push(self.database(number, "mysql").try_text(query).await.ok());
            }
            let none = Some("0".to_owned());
            counts[0].is_some() && counts[0] != none && counts[1..].iter().all(|own| *own == none)
        })
        .await;
    }

    /// Isolates a node from the group, or rejoins it.
    async fn isolate(&self, number: usize, is_isolated: bool) {
        let isolate = u8::from(is_isolated);
        let server = self.database(number, "mysql");
        let set = format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={isolate}'");
        server.execute(&set).await;
    }

    /// Checks that all nodes hold the same data.
    async fn check_equal(&self) {
        let expected = stored::read(&self.database(0, "m4")).await;
        for number in 1..NODES {
            until("the nodes hold the same", || async {
                stored::read(&self.database(number, "m4")).await == expected
            })
            .await;
        }
    }
}

/// Replaces parts of a text. The text must contain each part.
fn replaced(text: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(text.to_owned(), |text, (part, other)| {
        assert!(text.contains(part), "{part} is not in {text}");
        text.replace(part, other)
    })
}

/// Starts two replicas, each with its own database URL.
async fn replicas(urls: [String; 2]) -> Vec<Program> {
    let mut programs = Vec::new();
    for url in urls {
        let database = TestDatabase { kind: Kind::MariaDb, url };
        programs.push(Program::demo(&database, &[]).await);
    }
    programs
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_through_haproxy_survive_the_loss_of_the_active_node() {
    let _alone = alone().await;
    let Some(mut cluster) = Cluster::start().await else { return };
    let Some(haproxy) = cluster.haproxy() else { return };
    let url = haproxy.url("mysql://root", "m4");
    let programs = replicas([url.clone(), url]).await;
    stored::insert_users(&cluster.database(0, "m4")).await;
    let mut load = Load::start("Galera behind HAProxy", &programs, DEADLINE).await;
    for _ in 0..rounds() {
        let fault = load.fault("kill -9 of the active node");
        cluster.nodes[0].kill();
        load.recovered(fault).await;

        let fault = load.fault("its return: copied, synced, and active again");
        cluster.nodes[0].restart();
        cluster.until_back(0).await;
        cluster.until_moved_back().await;
        load.recovered(fault).await;

        let fault = load.fault("the active node is frozen");
        cluster.nodes[0].freeze();
        load.recovered(fault).await;
        cluster.until_size(1, NODES - 1).await;

        let fault = load.fault("it goes on, and is active again");
        cluster.nodes[0].thaw();
        cluster.until_back(0).await;
        cluster.until_moved_back().await;
        load.recovered(fault).await;

        let fault = load.fault("the active node is cut off from the others");
        cluster.isolate(0, true).await;
        load.recovered(fault).await;
        cluster.until_size(1, NODES - 1).await;

        let fault = load.fault("it joins the others, and is active again");
        cluster.isolate(0, false).await;
        cluster.until_back(0).await;
        cluster.until_moved_back().await;
        load.recovered(fault).await;

        let fault = load.fault("a node that is not active is frozen");
        cluster.nodes[2].freeze();
        cluster.until_size(1, NODES - 1).await;
        load.recovered(fault).await;
        cluster.nodes[2].thaw();
        cluster.until_back(2).await;
    }
    load.finish(&cluster.database(0, "m4"), &programs).await;
    cluster.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_on_two_nodes_survive_the_loss_of_either() {
    let _alone = alone().await;
    let Some(mut cluster) = Cluster::start().await else { return };
    let hosts = |order: [usize; NODES]| {
        let hosts = order.map(|number| format!("127.0.0.1:{}", cluster.nodes[number].port));
        format!("mysql://root@{}/m4", hosts.join(","))
    };
    let programs = replicas([hosts([0, 1, 2]), hosts([1, 2, 0])]).await;
    stored::insert_users(&cluster.database(0, "m4")).await;
    let mut load = Load::start("Galera, a replica on each of two nodes", &programs, DEADLINE).await;
    for _ in 0..rounds() {
        let fault = load.fault("kill -9 of one of the two nodes");
        cluster.nodes[0].kill();
        load.recovered(fault).await;

        let fault = load.fault("its return: copied and synced");
        cluster.nodes[0].restart();
        cluster.until_back(0).await;
        load.recovered(fault).await;

        let fault = load.fault("the other node is frozen");
        cluster.nodes[1].freeze();
        load.recovered(fault).await;
        cluster.until_size(2, NODES - 1).await;

        let fault = load.fault("it goes on, and is synced");
        cluster.nodes[1].thaw();
        cluster.until_back(1).await;
        load.recovered(fault).await;

        let fault = load.fault("a node is cut off from the others");
        cluster.isolate(2, true).await;
        load.recovered(fault).await;
        cluster.until_size(1, NODES - 1).await;

        let fault = load.fault("it joins the others, and is synced");
        cluster.isolate(2, false).await;
        cluster.until_back(2).await;
        load.recovered(fault).await;
    }
    load.finish(&cluster.database(0, "m4"), &programs).await;
    cluster.check_equal().await;
}
