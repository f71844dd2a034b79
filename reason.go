package plugbus

// A Reason is the machine-readable cause of a refusal. Reasons are stable:
// programs may compare them.
type Reason string

// Reasons that policy gives.
const (
	ReasonNoSendPermission        Reason = "no_send_permission"
	ReasonTrustLevelMismatch      Reason = "trust_level_mismatch"
	ReasonRateLimitExceeded       Reason = "rate_limit_exceeded"
	ReasonInvalidContent          Reason = "invalid_content"
	ReasonRecipientCannotReceive  Reason = "recipient_cannot_receive"
	ReasonInsufficientPermissions Reason = "insufficient_permissions"
	ReasonInsufficientTrustLevel  Reason = "insufficient_trust_level"

	ReasonDeniedByRule       Reason = "denied_by_rule"       // a deny pattern matched; deny beats allow
	ReasonPatternTooWide     Reason = "pattern_too_wide"     // the pattern matches more than the grant
	ReasonByteRateExceeded   Reason = "byte_rate_exceeded"   // bytes for each unit of time
	ReasonSharedNotGranted   Reason = "shared_not_granted"   // plugbus.Shared without a grant
	ReasonPriorityNotGranted Reason = "priority_not_granted" // a message more urgent than the grant allows
	ReasonUnknownPlugin      Reason = "unknown_plugin"       // the policy does not have that id
	ReasonReservedName       Reason = "reserved_name"        // the name belongs to the hub
	ReasonQuarantined        Reason = "quarantined"          // the plugin failed too often
	ReasonAuditUnavailable   Reason = "audit_unavailable"    // what must be recorded could not be
	ReasonCheckFailed        Reason = "check_failed"         // the check itself failed; never a reason to allow
	ReasonPolicyUnavailable  Reason = "policy_unavailable"   // the policy of then is no longer kept
)

// Reasons that need no policy.
const (
	ReasonInvalidName    Reason = "invalid_name"    // a name, pattern or id outside the grammar
	ReasonInvalidPayload Reason = "invalid_payload" // a value that cannot be copied, or is cyclic, or NaN
	ReasonTooLarge       Reason = "too_large"       // over the byte, node or depth budget
	ReasonChainTooDeep   Reason = "chain_too_deep"  // a cascade deeper than the limit
	ReasonCycle          Reason = "cycle"           // it would wait for itself
	ReasonQuotaExceeded  Reason = "quota_exceeded"  // too many things open
	ReasonRejected       Reason = "rejected"        // a validator or schema does not accept what would be stored
	ReasonMiddleware     Reason = "middleware"      // the host's middleware did not let it through
)

// A Code classifies an error that crosses from one plugin to another, in the
// process or through a bridge. The list is closed.
type Code string

// The codes.
const (
	CodeInvalid     Code = "invalid"     // the request is malformed, or of the wrong type
	CodeDenied      Code = "denied"      // the callee may not, or will not
	CodeNotFound    Code = "not_found"   // the thing asked for does not exist
	CodeConflict    Code = "conflict"    // the state has changed, or exists already
	CodeExhausted   Code = "exhausted"   // a limit was reached
	CodeUnavailable Code = "unavailable" // not now; a later try may do
	CodeDeadline    Code = "deadline"    // time ran out
	CodeCancelled   Code = "cancelled"   // the caller went away
	CodeInternal    Code = "internal"    // the callee is at fault, a panic included
	CodeUnknown     Code = "unknown"     // an error without a code
)
