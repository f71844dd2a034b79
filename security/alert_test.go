package security_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/security"
)

// alerting returns an authority that writes its alerts into a list.
func alerting(t *testing.T, p *security.Policy) (*security.Authority, *audit.Log, *[]security.Alert) {
	var alerts []security.Alert
	a, log := audited(t, security.Options{Policy: p, Alert: func(a security.Alert) { alerts = append(alerts, a) }})
	return a, log, &alerts
}

// TestEachAlert makes every alert fire, and finds it in the audit log (L9, L11).
func TestEachAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, log, alerts := alerting(t, policy(t, `{"p":{"send":true,"receive":true,"emit":true,
			"dataAccess":{"s":{"read":true,"write":true}},
			"rates":{"messages":{"limit":100},"data_access":{"limit":200},"bytes":{"limit":1000}}}}`))
		s := join(t, a, "p")
		for _, test := range []struct {
			kind  security.AlertKind
			meter plugbus.Meter
			under int // no alert yet
		}{
			{security.HighMessageRate, s.Permit(plugbus.VerbSend, "p").Acts, 49},
			{security.HighEventRate, s.Permit(plugbus.VerbEmit, "x").Acts, 2999},
			{security.HighDataAccessRate, s.Permit(plugbus.VerbRead, "s").Acts, 99},
			{security.HighByteRate, s.Permit(plugbus.VerbWrite, "s").Bytes, 499},
		} {
			*alerts = nil
			for left := test.under; left > 0; left -= 100 { // the burst may be smaller
				<-time.After(time.Second)
				require.Zero(t, test.meter.Take(time.Now(), min(left, 100)))
			}
			require.Empty(t, *alerts, test.kind)
			test.meter.Take(time.Now(), 2)
			require.Len(t, *alerts, 1, test.kind)
			got := (*alerts)[0]
			require.Equal(t, security.Alert{
				Kind: test.kind, Severity: security.Low, Plugin: "p",
				Count: uint64(test.under) + 2, Threshold: uint64(test.under) + 1,
				Time: got.Time, Record: got.Record,
			}, got)
			entry, ok := log.Get(got.Record)
			require.True(t, ok)
			require.Equal(t, "alert."+string(test.kind), entry.Event)
			require.Equal(t, "p", entry.Actor)
			require.True(t, entry.Admin)
			require.Equal(t, "low", details(entry)["severity"])
		}

		*alerts = nil
		for i := range 20 {
			require.Empty(t, *alerts, "refusal %d", i)
			_ = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbConsume, Object: fmt.Sprint(i), Reason: plugbus.ReasonInsufficientPermissions})
		}
		require.Len(t, *alerts, 1)
		require.Equal(t, security.ManyRefusals, (*alerts)[0].Kind)
		require.Equal(t, uint64(20), (*alerts)[0].Count)
		require.Contains(t, (*alerts)[0].String(), `many_refusals (low): plugin "p": 20 in 1m0s; alerts begin at 20`)
	})
}

// TestAlertsSeeFloods shows that refused attempts count, and that the severity
// grows with the size, one alert each (L8, L10).
func TestAlertsSeeFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, alerts := alerting(t, policy(t, `{"p":{"send":true,"receive":true}}`))
		acts := join(t, a, "p").Permit(plugbus.VerbSend, "p").Acts
		for range 10_000 {
			acts.Take(time.Now(), 1)
		}
		var got []string
		for _, a := range *alerts {
			got = append(got, fmt.Sprintf("%s %s %d of %d", a.Kind, a.Severity, a.Count, a.Threshold))
		}
		require.Equal(t, []string{
			"high_message_rate low 53 of 50", // up to a stock late
			"high_message_rate medium 101 of 50",
			"high_message_rate high 200 of 50",
		}, got)
		u, _ := a.Usage("p")
		require.Equal(t, uint64(10_000), u.Operations[0].Attempts)
		require.Equal(t, uint64(100), u.Operations[0].Admitted)
		require.Equal(t, uint64(9_900), u.Operations[0].Refused)
	})
}

// TestAlertsAreRelative shows that the threshold follows the limit, and that
// traffic well within it is quiet for ever (L10).
func TestAlertsAreRelative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, alerts := alerting(t, policy(t, `{"p":{"send":true,"receive":true,"rates":{"messages":{"limit":1000}}},
			"q":{"send":true,"receive":true,"rates":{"messages":{"limit":100,"per":"24h","burst":50}}}}`))
		acts := join(t, a, "p").Permit(plugbus.VerbSend, "p").Acts
		for range 60 * 400 {
			require.Zero(t, acts.Take(time.Now(), 1))
			<-time.After(time.Minute / 400)
		}
		require.Empty(t, *alerts)

		// For a rate that is slower than the window, the burst is what counts.
		acts = join(t, a, "q").Permit(plugbus.VerbSend, "q").Acts
		require.Zero(t, acts.Take(time.Now(), 24))
		require.Empty(t, *alerts)
		require.Zero(t, acts.Take(time.Now(), 2))
		require.Len(t, *alerts, 1)
	})
}

// TestAlertHysteresis shows that a rate that stays around the threshold is told
// of once, and again only after it fell below the half (L10).
func TestAlertHysteresis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, alerts := alerting(t, policy(t, `{"p":{"emit":true,"rates":{"events":{"limit":600}}}}`))
		acts := join(t, a, "p").Permit(plugbus.VerbEmit, "x").Acts
		run := func(perSecond, seconds int) {
			for range seconds {
				acts.Take(time.Now(), perSecond)
				<-time.After(time.Second)
			}
		}
		for range 20 { // 240 to 360 a minute, around the threshold of 300
			run(4, 60)
			run(6, 60)
		}
		require.Len(t, *alerts, 1)
		run(2, 120) // below 150
		run(6, 60)
		require.Len(t, *alerts, 2)
	})
}

// TestAlertComesAgain shows that a rate that fell while nobody acted is told of
// again, also where one act alone is too much (L10).
func TestAlertComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, alerts := alerting(t, policy(t, `{"p":{"emit":true,"rates":{"events":{"limit":1},"bytes":{"limit":1000}}}}`))
		permit := join(t, a, "p").Permit(plugbus.VerbEmit, "x")
		for round := 1; round <= 3; round++ {
			for range 5 {
				permit.Acts.Take(time.Now(), 1)
				permit.Bytes.Take(time.Now(), 120)
			}
			require.Len(t, *alerts, 4*round, "three of events, one of bytes: %v", *alerts)
			<-time.After(time.Hour)
		}
	})
}

// TestRefusalsAreAttempts shows that a refusal counts as one attempt, whether
// it comes before the meter or after it (L8).
func TestRefusalsAreAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := alerting(t, policy(t, `{"p":{"emit":{"allow":["x"]}}}`))
		s := join(t, a, "p")
		refuse := func(reason plugbus.Reason) {
			_ = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbEmit, Object: "x", Reason: reason})
		}
		acts := s.Permit(plugbus.VerbEmit, "x").Acts
		acts.Take(time.Now(), 1)                // admitted
		acts.Take(time.Now(), 1)                // admitted, and then
		refuse(plugbus.ReasonTooLarge)          // refused by its payload
		refuse(plugbus.ReasonDeniedByRule)      // refused before the meter
		refuse(plugbus.ReasonReservedName)      // the same
		acts.Take(time.Now(), 100_000)          // refused by the meter
		refuse(plugbus.ReasonRateLimitExceeded) // the same act
		_ = s.Refuse(plugbus.Refusal{Verb: plugbus.VerbConsume, Object: "x", Reason: plugbus.ReasonDeniedByRule})
		u, _ := a.Usage("p")
		require.Equal(t, uint64(5), u.Refusals)
		require.Equal(t, security.Events, u.Operations[1].Operation)
		require.Equal(t, uint64(100_004), u.Operations[1].Attempts)
		require.Equal(t, uint64(2), u.Operations[1].Admitted)
		require.Equal(t, uint64(100_002), u.Operations[1].Refused)

		<-time.After(time.Minute)
		u, _ = a.Usage("p")
		require.Zero(t, u.Refusals)
		require.Zero(t, u.Operations[1].Attempts)
	})
}
