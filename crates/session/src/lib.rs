//! Who is asking: stateless tokens, key rotation, revocation and shared session state.
