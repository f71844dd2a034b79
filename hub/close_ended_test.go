package hub_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// endedActs call each method of a session, and return its error; nil for those that only
// tell what they know.
var endedActs = map[string]func(s *hub.Session) error{
	"ID": nil, "Logger": nil,
	"Emit": func(s *hub.Session) error { return second(s.Emit(context.Background(), "word.said", 1)) },
	"Broadcast": func(s *hub.Session) error {
		return second(s.Broadcast(context.Background(), "word.said", 1, events.Audience{}))
	},
	"Subscribe": func(s *hub.Session) error { return second(s.Subscribe("word.*", (&inbox{}).handle)) },
	"Replay": func(s *hub.Session) (err error) {
		for _, err = range s.Replay(context.Background(), "word.*", events.All()) {
		}
		return err
	},
	"Handle": func(s *hub.Session) error { return second(s.Handle("late", noReply)) },
	"HandleStream": func(s *hub.Session) error {
		return second(s.HandleStream("late", func(context.Context, router.Message, func(any) bool) error { return nil }))
	},
	"HandleDefault": func(s *hub.Session) error { return second(s.HandleDefault(noReply)) },
	"HandleTopic": func(s *hub.Session) error {
		return second(s.HandleTopic("late.*", func(context.Context, router.Message) error { return nil }))
	},
	"Send": func(s *hub.Session) error { return second(s.Send(context.Background(), "other", "job", 1)) },
	"Stream": func(s *hub.Session) (err error) {
		for _, err = range s.Stream(context.Background(), "other", "job", 1) {
		}
		return err
	},
	"Post":        func(s *hub.Session) error { return s.Post(context.Background(), "other", "job", 1) },
	"Publish":     func(s *hub.Session) error { return second(s.Publish(context.Background(), "job", 1)) },
	"CreateStore": func(s *hub.Session) error { return second(s.CreateStore(context.Background(), "late", store.Config{})) },
	"EnsureStore": func(s *hub.Session) error { return second(s.EnsureStore(context.Background(), "late", store.Config{})) },
	"OpenStore":   func(s *hub.Session) error { return second(s.OpenStore(context.Background(), "late")) },
	"Stores":      func(s *hub.Session) error { return second(s.Stores(context.Background())) },
	"Provide":     func(s *hub.Session) error { return s.Provide(hub.Capability{Name: "late"}, noReply) },
	"Withdraw":    func(s *hub.Session) error { return s.Withdraw("late") },
	"Find":        func(s *hub.Session) error { return second(s.Find(discovery.Criteria{})) },
	"Providers":   func(s *hub.Session) error { return second(s.Providers("late")) },
	"Candidates":  func(s *hub.Session) error { return second(s.Candidates(discovery.Criteria{})) },
	"Capability":  nil,
	"Call":        func(s *hub.Session) error { return second(s.Call(context.Background(), "late", 1)) },
	"Go":          func(s *hub.Session) error { return s.Go("late", func(context.Context) { panic("called") }) },
}

func second[T any](_ T, err error) error { return err }

func noReply(context.Context, router.Message) (any, error) { return nil, nil }

// TestEveryMethodEnds shows that the table above has every method of a session.
func TestEveryMethodEnds(t *testing.T) {
	session := reflect.TypeFor[*hub.Session]()
	for method := range session.Methods() {
		require.Contains(t, endedActs, method.Name)
	}
	require.Len(t, endedActs, session.NumMethod())
}

// sessionsEnded requires that every call of these sessions returns ErrClosed, at once.
func sessionsEnded(t *testing.T, sessions ...*hub.Session) {
	t.Helper()
	start := time.Now()
	for _, s := range sessions {
		for name, act := range endedActs {
			if act != nil {
				require.ErrorIs(t, act(s), plugbus.ErrClosed, "%s of %q", name, s.ID())
			}
		}
	}
	require.Zero(t, time.Since(start))
}
