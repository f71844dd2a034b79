package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLog returns a log that is closed when the test ends, whatever its sinks do.
func newLog(t testing.TB, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close(canceled()) })
	return l
}

// apart is the option of logs whose tests are not about repeats.
const apart = -time.Second

func refused(actor, target string) audit.Entry {
	return audit.Entry{
		Event: "emit.refused", Actor: actor, Target: target,
		Verb: plugbus.VerbEmit, Outcome: plugbus.Refused, Reason: plugbus.ReasonDeniedByRule,
	}
}

func record(t testing.TB, l *audit.Log, e audit.Entry) uint64 {
	t.Helper()
	seq, err := l.Record(e)
	require.NoError(t, err)
	return seq
}

func search(t testing.TB, l *audit.Log, q audit.Query) audit.Page {
	t.Helper()
	page, err := l.Search(q)
	require.NoError(t, err)
	return page
}

func seqs(entries []audit.Entry) []uint64 {
	var all []uint64
	for _, e := range entries {
		all = append(all, e.Seq)
	}
	return all
}

// canceled returns a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
