package security

import (
	"fmt"
	"time"

	"github.com/plugbus/plugbus/audit"
)

// An Alert says that a plugin does more than it should. It looks at attempts,
// so a flood that is refused is seen in full. There is one alert when a
// severity is reached, and the next of that severity only after the figure has
// fallen below half of the lowest threshold.
type Alert struct {
	Kind     AlertKind `json:"kind"`
	Severity Severity  `json:"severity"`
	Plugin   string    `json:"plugin"`

	// Count is the attempts, or the refusals, of the last [Window].
	Count uint64 `json:"count"`

	// Threshold is the count from which there is an alert of this kind.
	Threshold uint64 `json:"threshold"`

	Time   time.Time `json:"time"`
	Record uint64    `json:"record"` // the number of the audit entry
}

// String says who does too much of what.
func (a Alert) String() string {
	return fmt.Sprintf("%s (%s): plugin %q: %d in %v; alerts begin at %d", a.Kind, a.Severity, a.Plugin, a.Count, Window, a.Threshold)
}

// An AlertKind names what an alert is about. The list is closed.
type AlertKind string

// The kinds of alerts.
const (
	HighMessageRate    AlertKind = "high_message_rate"
	HighEventRate      AlertKind = "high_event_rate"
	HighDataAccessRate AlertKind = "high_data_access_rate"
	HighByteRate       AlertKind = "high_byte_rate"
	ManyRefusals       AlertKind = "many_refusals"
	PluginQuarantined  AlertKind = "plugin_quarantined" // raised by the hub: Count failures
)

// alertKinds holds the kind of each operation, and then that of refusals.
var alertKinds = [...]AlertKind{
	Messages: HighMessageRate, Events: HighEventRate, DataAccess: HighDataAccessRate, Bytes: HighByteRate,
	operations: ManyRefusals,
}

// A Severity grades alerts. Severities are ordered.
type Severity uint8

// The severities: the threshold is reached, or twice, or four times.
const (
	Low Severity = iota + 1
	Medium
	High
)

// String returns the severity in lower case.
func (s Severity) String() string {
	switch s {
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText returns what String returns.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// grade returns the severity of a count, or 0.
func grade(count, threshold uint64) Severity {
	switch {
	case threshold == 0 || count < threshold:
		return 0
	case count < 2*threshold:
		return Low
	case count < 4*threshold:
		return Medium
	}
	return High
}

// An alarm is the severity that has been told, and not fallen from.
type alarm struct{ told Severity }

// rise reports whether a count is worth an alert, and of which severity. What it
// was before the act shows whether it had fallen: one act may bring it back.
func (a *alarm) rise(before, count, threshold uint64) (Severity, bool) {
	if before < (threshold+1)/2 {
		a.told = 0
	}
	s := grade(count, threshold)
	if s <= a.told {
		return 0, false
	}
	a.told = s
	return s, true
}

// threshold returns the attempts in a window from which there is an alert: a
// share of what the rate admits in it, for slow rates of the burst. It is 0
// where nothing is admitted, since each attempt is a refusal then.
func threshold(r Rate, share float64) uint64 {
	if r.Limit == 0 {
		return 0
	}
	full := max(float64(r.Limit)*float64(Window)/float64(r.Per), float64(r.Burst))
	return max(1, uint64(full*share))
}

// alert records an alert and tells the host. No lock is held.
func (a *Authority) alert(x Alert) {
	x.Record = a.record(audit.Entry{
		Event: "alert." + string(x.Kind),
		Actor: x.Plugin,
		Time:  x.Time,
		Admin: true,
		Details: []audit.Detail{
			{Key: "severity", Value: x.Severity.String()},
			{Key: "count", Value: fmt.Sprint(x.Count)},
			{Key: "threshold", Value: fmt.Sprint(x.Threshold)},
		},
	})
	if a.options.Alert != nil {
		a.options.Alert(x)
	}
}
