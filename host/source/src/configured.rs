//! The sources that a configuration can name, as one [`Source`]: each kind of [`Spec`] with the module that reads it.

use crate::{
    Fleet, Source, SourceContext, SourceError, Spec, android, annexb, device, file, pattern, web,
};
use std::{fmt, sync::Arc};

/// A source that a configuration names, with the part of the gateway that some of them need.
#[derive(Debug)]
pub struct ConfiguredSource {
    spec: Spec,
    /// The Android devices, of which it may be one.
    fleet: Arc<Fleet>,
}

impl ConfiguredSource {
    /// The source that `spec` describes; an Android device is looked up in `fleet`.
    pub fn new(spec: Spec, fleet: &Arc<Fleet>) -> ConfiguredSource {
        ConfiguredSource {
            spec,
            fleet: fleet.clone(),
        }
    }
}

impl fmt::Display for ConfiguredSource {
    /// The source string without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Source for ConfiguredSource {
    fn run(&self, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
        let ended = match &self.spec {
            Spec::TestPattern => pattern::run(context),
            Spec::File(path) => file::run(path, context),
            Spec::Url(url) => web::run(url, context),
            Spec::Camera(path) => device::run_camera(path, context),
            Spec::Screen(screen) => device::run_screen(screen, context),
            Spec::Lavfi(source) => device::run_lavfi(source, context),
            Spec::AnnexbListen(address) => annexb::run_listener(*address, context),
            Spec::AnnexbConnect(address) => annexb::run_connection(address, context),
            Spec::AnnexbStdin => annexb::run_stdin(context),
            Spec::Android(serial) => android::run(serial, &self.fleet, context),
        };
        // An interrupted source returns an error, which is not a failure if it was stopped.
        if context.stop.is_stopped() {
            Ok(())
        } else {
            ended
        }
    }

    fn may_be_silent(&self) -> bool {
        matches!(
            self.spec,
            Spec::AnnexbListen(_) | Spec::AnnexbConnect(_) | Spec::AnnexbStdin | Spec::Android(_)
        )
    }

    fn is_finite(&self) -> bool {
        matches!(self.spec, Spec::AnnexbStdin)
    }

    fn scrub(&self, text: &str) -> String {
        self.spec.scrub(text)
    }

    fn android_serial(&self) -> Option<&str> {
        match &self.spec {
            Spec::Android(serial) => Some(serial),
            _ => None,
        }
    }

    fn is_test_pattern(&self) -> bool {
        matches!(self.spec, Spec::TestPattern)
    }
}
