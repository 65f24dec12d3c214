//! One trace for a message: from the gateway that takes it, over the store, to the gateway that hands it on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use entrenous_client::Target;
use entrenous_system_tests::{Person, Shape, System};
use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message as _;

use crate::support::{group, live, next_entry, text, until};

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector that keeps what it gets; gives its address.
fn collector(spans: &Spans) -> String {
    let kept = Arc::clone(spans);
    let server = HttpServer::new(move || {
        let kept = web::Data::new(Arc::clone(&kept));
        App::new().app_data(kept).route("/v1/traces", web::post().to(collect))
    });
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs().first().copied().unwrap();
    tokio::spawn(server.run());
    format!("http://{address}")
}

async fn collect(kept: web::Data<Spans>, body: web::Bytes) -> HttpResponse {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    kept.lock().unwrap_or_else(PoisonError::into_inner).extend(scopes.flat_map(|scope| scope.spans));
    HttpResponse::Ok().finish()
}

#[tokio::test]
async fn a_message_is_one_trace_from_gateway_to_gateway() {
    let spans = Spans::default();
    let shape = Shape { replicas: 1, ..Shape::split() }
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector(&spans))
        .with("OTEL_TRACES_SAMPLER_ARG", 1)
        .with("OTEL_BSP_SCHEDULE_DELAY", 100);
    let system = System::start(&shape).await.unwrap();
    let [near, far] = system.gateways() else { panic!("two gateways") };
    let (alice, bob) = (Person::new(near, "alice").await.unwrap(), Person::new(far, "bob").await.unwrap());
    let room = group(&alice, &[&bob]).await;
    let (at_alice, mut at_bob) = (live(&alice).await, live(&bob).await);
    at_alice.send_message(Target::Conversation(room), &text("traced")).await.unwrap();
    next_entry(&mut at_bob).await;
    // Each gateway has somebody to hand it to; the store serves the append.
    until("append 1, fan_out 2, send 1, serve 1", async || Some(trace_of_the_send(&spans))).await;
    system.stop().await;
}

/// The spans of the trace of the message, by name.
fn trace_of_the_send(spans: &Spans) -> String {
    let spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(send) = spans.iter().find(|span| span.name == "send") else { return "no send yet".to_owned() };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.trace_id == send.trace_id) {
        *counts.entry(&span.name).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
