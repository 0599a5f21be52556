//! Protobuf, which client-go's components speak, beside JSON: what the same costs the server in each.

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use crate::cluster::{Ground, Running, Site};
use crate::load::{Outcome, drive, namespace};
use crate::objects::parked_pod;
use crate::report::Row;
use crate::wire::{Request, Wire};

const COUNT: usize = 2_500;
const IN_FLIGHT: usize = 64;
const LISTS: usize = 20;
const AT_ONCE: usize = 4;
const PATH: &str = "/api/v1/namespaces/bench/pods";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

pub async fn run(ground: &Ground) -> Result<Vec<Row>> {
    let site = Site::new(ground)?;
    let running = site.start_ready().await?;
    let wires = namespace(&site, "bench").await?;
    let mut rows = vec![created(&running, &wires).await?];
    rows.push(
        compared(&running, &wires, "get Pods", (COUNT, IN_FLIGHT), |number| format!("{PATH}/json-{number}"))
            .await?,
    );
    rows.push(compared(&running, &wires, "list 10,000 Pods", (LISTS, AT_ONCE), |_| PATH.to_owned()).await?);
    site.stop(running).await?;
    Ok(rows)
}

/// Pods made in both forms, in turns that favour neither: the more there are, the more each costs.
async fn created(running: &Running, wires: &[Wire]) -> Result<Row> {
    let mut spent = [0, 0];
    let turns = [(JSON, "json"), (PROTOBUF, "protobuf"), (PROTOBUF, "protobuf"), (JSON, "json")];
    for (turn, (form, name)) in turns.into_iter().enumerate() {
        let pod = |number: usize| body(form, &format!("{name}-{}", turn / 2 * COUNT + number));
        let make = |number| Request::new(Method::POST, PATH, pod(number)).form(form).accept(form);
        let made = drive(running, wires, (COUNT, IN_FLIGHT), make, |_, _| {}).await?;
        spent[usize::from(form == PROTOBUF)] += made.server.as_micros() / made.count.max(1) as u128;
    }
    let [json, protobuf] = spent.map(|two| two / 2);
    let value = format!("JSON {json} µs CPU each, protobuf {protobuf} µs");
    Ok(Row::new("create Pods: by form", value).mark("protobuf ≤ JSON", protobuf <= json))
}

fn body(form: &str, name: &str) -> Bytes {
    let json = parked_pod(name);
    match form {
        PROTOBUF => {
            let tree = tiphys_api::Value::from_json(&json).expect("the pod is JSON");
            tiphys_api::protobuf::encode(&tree).expect("pods have a protobuf form").into()
        }
        _ => json,
    }
}

/// The same read in both forms, after one round in each that is not measured: what is made once is made.
async fn compared(
    running: &Running,
    wires: &[Wire],
    what: &str,
    load: (usize, usize),
    path: fn(usize) -> String,
) -> Result<Row> {
    let read = async |form| {
        let request = |number| Request::new(Method::GET, path(number), "").accept(form);
        drive(running, wires, load, request, |_, _| {}).await?;
        drive(running, wires, load, request, |_, _| {}).await
    };
    let (json, protobuf) = (read(JSON).await?, read(PROTOBUF).await?);
    let each = |outcome: &Outcome| outcome.server.as_micros() / outcome.count.max(1) as u128;
    let value = format!("JSON {} µs CPU each, protobuf {} µs", each(&json), each(&protobuf));
    Ok(Row::new(format!("{what}: by form"), value).mark("protobuf ≤ JSON", each(&protobuf) <= each(&json)))
}
