//! A path and its methods, so that every other method is answered 405 with `Allow`.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError, guard,
    http::{Method, header},
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use entrenous_protocol::{Code, Failure};

use super::{answer::answer, problem::Problem};

/// A path whose methods are being named.
pub(crate) struct Methods {
    resource: Resource,
    allow: Vec<&'static str>,
}

/// Begins a path.
pub(crate) fn at(path: &str) -> Methods {
    Methods { resource: web::resource(path), allow: Vec::new() }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub(crate) fn $name<F, Args>(mut self, handler: F) -> Self
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            self.allow.push($text);
            self.resource = self.resource.route(web::$name().to(handler));
            self
        }
    )*};
}

impl Methods {
    /// Reads; `HEAD` is answered too. Source: RFC 9110 9.1.
    #[must_use]
    pub(crate) fn get<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.allow.extend(["GET", "HEAD"]);
        let reads = guard::Any(guard::Get()).or(guard::Head());
        self.resource = self.resource.route(web::route().guard(reads).to(handler));
        self
    }

    methods! {
        /// Makes or does something.
        post = "POST";
        /// Makes something so; doing it twice changes nothing.
        put = "PUT";
        /// Changes something.
        patch = "PATCH";
        /// Removes something.
        delete = "DELETE";
    }

    /// Adds the path to the application.
    pub(crate) fn register(mut self, config: &mut ServiceConfig) {
        self.allow.push("OPTIONS");
        let allow = self.allow.join(", ");
        let other = move |request: HttpRequest| {
            let response = answer_other(request.method(), &allow);
            async move { response }
        };
        config.service(self.resource.default_service(web::to(other)).wrap(from_fn(answer)));
    }
}

fn answer_other(method: &Method, allow: &str) -> HttpResponse {
    let mut response = if method == Method::OPTIONS {
        HttpResponse::NoContent().finish()
    } else {
        Problem(Failure::new(Code::MethodNotAllowed, format!("allowed here: {allow}"))).error_response()
    };
    if let Ok(allow) = header::HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
