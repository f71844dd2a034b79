// Package plugbus holds the words that the packages of the bus share: who acts
// ([Verb], [Trust], [Chain]), how it ended ([Outcome], [Ledger]), and why not
// ([Reason], [Code], and the errors).
//
// A host application starts in package hub: it embeds one hub.Hub, and its
// plugins join that hub and talk only through it. Package events, router,
// store, discovery, security and audit hold the parts; each can be used by
// itself.
//
// # Guards
//
// A part that moves data, such as an events.Bus, knows no policy. It asks a
// [Guard], one for each plugin, and keeps the answer, a [Permit], for as long
// as the guard's version stands. The hub makes its guards from package
// security. A part without a guard allows everything.
//
// # Errors
//
// Every refusal is a [*DeniedError]. It matches [ErrDenied], and carries the
// verb, the object, a reason code and the number of the audit record that holds
// the whole story. Calls on something that has ended return an error that
// matches [ErrClosed].
package plugbus

import "github.com/google/uuid"

// An ID identifies one event or message. It is a UUID of version 7, so that
// ids sort by time; it is unique, and it is not a secret.
type ID = uuid.UUID

// MaxTextBytes bounds the text of another plugin that the bus passes on in an
// error, an audit entry or a log line. Longer text is cut, and ends in "…".
const MaxTextBytes = 1024
