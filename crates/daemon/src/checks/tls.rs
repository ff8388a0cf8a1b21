//! TLS for checks: as keepalived, whom it talks to is not verified.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme,
};

use super::{Failure, Target};

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The name that is asked for (`enable_sni`).
    pub name: Option<String>,
    /// Who this host says it is, if it is asked.
    pub identity: Option<Arc<Identity>>,
}

/// A certificate with its key.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from files in PEM.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain: Vec<_> = chain.map_err(|error| format!("{}: {error}", certificate.display()))?;
        if chain.is_empty() {
            return Err(format!("{}: no certificate in it", certificate.display()));
        }
        let read = PrivateKeyDer::from_pem_file(key);
        let read = read.map_err(|error| {
            format!(
                "{}: {error}; it has to be a key without a password",
                key.display()
            )
        })?;
        let identity = Self { chain, key: read };
        let fits = identity.present(client(&provider()).map_err(|error| error.to_string())?);
        match fits {
            Ok(_) => Ok(identity),
            Err(error) => Err(format!("{}: {error}", key.display())),
        }
    }

    fn present(&self, builder: Builder) -> Result<ClientConfig, Error> {
        builder.with_client_auth_cert(self.chain.clone(), self.key.clone_key())
    }
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that talks to anybody.
fn client(provider: &Arc<CryptoProvider>) -> Result<Builder, Error> {
    let versions = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = versions.with_safe_default_protocol_versions()?.dangerous();
    let anybody = Arc::new(Anybody(Arc::clone(provider)));
    Ok(builder.with_custom_certificate_verifier(anybody))
}

impl Tls {
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        target: &Target,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let wrong = |error: Error| Failure::Wrong(format!("TLS: {error}"));
        let client = client(&provider()).map_err(wrong)?;
        let mut config = match &self.identity {
            None => client.with_no_client_auth(),
            Some(identity) => identity.present(client).map_err(wrong)?,
        };
        config.enable_sni = self.name.is_some();
        let name = match &self.name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| Failure::Wrong(format!("{name:?} is no name for TLS")))?,
            None => ServerName::IpAddress(target.to.ip().into()),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(name, stream).await;
        connected.map_err(Failure::broken("TLS"))
    }
}

/// Takes every certificate: the check asks whether the service works, not who it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
