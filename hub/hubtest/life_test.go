package hubtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
)

// TestLifeOfAPlugin has an author test in a bubble that a plugin comes back from quarantine
// by a probe, in no time, and that of the events around a swap each version has its own.
func TestLifeOfAPlugin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubtest.New(t, security.AllowAll(), hubtest.AllowProblems("it panics"), hubtest.With(hub.Options{FailureBudget: 1, ProbeAfter: time.Minute}))
		got := 0
		worker := h.Plugin("worker", func(_ context.Context, s *hub.Session) error {
			_, err := s.Subscribe("job.*", func(_ context.Context, e events.Event) error {
				if e.Name() == "job.bad" {
					panic("no")
				}
				got++
				return nil
			})
			return err
		})
		for _, name := range []string{"job.bad", "job.bad", "job.new"} {
			_, err := h.Host().Emit(t.Context(), name, nil)
			require.NoError(t, err)
			h.Settle()
		}
		_, err := worker.Emit(t.Context(), "job.done", nil)
		hubtest.RequireDenied(t, err, plugbus.ReasonQuarantined)
		<-time.After(time.Minute)
		synctest.Wait()
		_, err = worker.Emit(t.Context(), "job.done", nil)
		hubtest.RequireAllowed(t, err)
		h.Settle()
		require.Equal(t, 1, got, "its own event; the job of meanwhile is gone")

		next := 0
		require.NoError(t, h.Replace(t.Context(), hub.Func(hub.Manifest{ID: "worker", Version: "2.0.0"}, func(ctx context.Context, s *hub.Session) error {
			if _, err := h.Host().Emit(ctx, "job.new", nil); err != nil { // The old one has it.
				return err
			}
			_, err := s.Subscribe("job.*", func(context.Context, events.Event) error { next++; return nil })
			return err
		})))
		_, err = h.Host().Emit(t.Context(), "job.new", nil)
		require.NoError(t, err)
		h.Settle()
		require.Equal(t, []int{2, 1}, []int{got, next})
	})
}
