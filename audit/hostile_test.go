package audit_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus/audit"
)

// A grim value panics with itself when it is made text, so that whoever prints the panic
// panics again.
type grim struct{}

func (g grim) Error() string { panic(g) }

// A trapdoor ends the goroutine that makes it text.
type trapdoor struct{}

func (trapdoor) Error() string {
	runtime.Goexit()
	return ""
}

// TestSinkErrorsWithoutText shows that a sink whose error or panic cannot be made text
// fails that write, and harms neither the process nor the next write (A6).
func TestSinkErrorsWithoutText(t *testing.T) {
	t.Parallel()
	for _, bad := range []error{grim{}, trapdoor{}} {
		for what, fail := range map[string]func() error{
			"returned": func() error { return bad },
			"panicked": func() error { panic(bad) },
		} {
			synctest.Test(t, func(t *testing.T) {
				sink := &double{}
				first := true
				sink.write = func(context.Context, audit.Entry) error {
					if first {
						first = false
						return fail()
					}
					return nil
				}
				log, err := audit.New(audit.Options{Sinks: []audit.SinkOptions{{Name: "bad", Sink: sink}}})
				require.NoError(t, err)
				for _, event := range []string{"x.y", "x.z"} {
					_, err := log.Record(audit.Entry{Event: event, Actor: "a"})
					require.NoError(t, err)
					synctest.Wait()
				}
				require.EqualValues(t, 1, log.Stats().Sinks[0].Failed, "%T %s", bad, what)
				require.EqualValues(t, 1, log.Stats().Sinks[0].Written, "%T %s", bad, what)
				require.NoError(t, log.Close(t.Context()))
			})
		}
	}
}
