package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Deliver passes a message on. For Send it returns the reply; for the other
// kinds, which have none yet, a Response that stands for the acceptance.
//
// Each call that reaches the door is a message of its own, with its own id and
// outcome. A stream is opened by the last call that is accepted.
//
// What ctx ends is the wait for a reply or for room. A stream goes on when ctx has
// ended, but not past its deadline.
type Deliver func(ctx context.Context, m *Draft) (Response, error)

// A Middleware wraps the next step of a message's way to the door. It may change
// the message, call next with it, once or more often, and return what next
// returned, or an error. It runs on the sender's goroutine, before the check, so
// what it costs is not limited by the sender's rates; and it can be called for
// several messages at a time.
//
// It is called anew for each message, so what it keeps from one message to the next
// lives outside of it:
//
//	func Count(n *atomic.Int64) router.Middleware {
//		return func(next router.Deliver) router.Deliver {
//			return func(ctx context.Context, m *router.Draft) (router.Response, error) {
//				n.Add(1)
//				return next(ctx, m)
//			}
//		}
//	}
//
// A message that no next has delivered is refused with ReasonMiddleware, whatever
// the middleware did instead: return an error, which is the Cause of the refusal,
// or neither an error nor a response, or panic. Where the middleware is at fault the
// Cause is a [*MiddlewareError]. Its error after it has called next
// is the sender's as it is. A next that is called after the middleware has returned
// delivers nothing, and returns an error that matches [ErrClosed].
type Middleware func(next Deliver) Deliver

// A UseOption changes one call of Use.
type UseOption interface{ applyUse(*use) error }

// ForTarget uses a middleware only for messages to one plugin. For a publication,
// it runs once for each handler of that plugin; other middleware runs once.
func ForTarget(id string) UseOption { return targetOption{id} }

type targetOption struct{ id string }

func (opt targetOption) applyUse(u *use) error {
	u.info.Target = opt.id
	return topic.CheckID(opt.id)
}

// A MiddlewareInfo describes a middleware.
type MiddlewareInfo struct {
	Name   string
	Target string // "" for all
}

// A use is a middleware in use.
type use struct {
	info MiddlewareInfo
	wrap Middleware
}

// middlewares are those in use. They are immutable.
type middlewares struct {
	all  []use            // in their order
	some map[string][]use // likewise, by target; those of "" are for every message
}

func newMiddlewares(all []use) *middlewares {
	if len(all) == 0 {
		return nil // So that messages pay nothing for it.
	}
	m := &middlewares{all, map[string][]use{}}
	for _, u := range all {
		m.some[u.info.Target] = append(m.some[u.info.Target], u)
	}
	return m
}

// forTarget returns those for one plugin, or with "" those for all.
func (m *middlewares) forTarget(id string) []use {
	if m == nil {
		return nil
	}
	return m.some[id]
}

// maxMiddlewares bounds the middlewares in use.
const maxMiddlewares = 256

// Use adds a middleware under a name of its own. Those for all messages run
// before those for one plugin, and otherwise they run in the order in which they
// were added: the first is the outermost. It holds for messages that are sent from
// then on. The error matches [plugbus.ErrInvalid].
func (r *Router) Use(name string, m Middleware, options ...UseOption) error {
	u := use{MiddlewareInfo{Name: name}, m}
	errs := []error{topic.CheckName(name)}
	if m == nil {
		errs = append(errs, fmt.Errorf("it is nil: %w", plugbus.ErrInvalid))
	}
	for _, option := range options {
		if option == nil {
			errs = append(errs, &OptionError{"UseOption", nil, "an option of package router"})
			continue
		}
		errs = append(errs, option.applyUse(&u))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("router: use middleware %q: %w", plugbus.CutText(name), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.inUse()
	if slices.ContainsFunc(old, func(other use) bool { return other.info.Name == name }) {
		return fmt.Errorf("router: use middleware %q: the name is in use; remove that one first: %w", name, plugbus.ErrInvalid)
	}
	if len(old) >= maxMiddlewares {
		return fmt.Errorf("router: use middleware %q: there are %d already: %w", name, len(old), plugbus.ErrInvalid)
	}
	r.middleware.Store(newMiddlewares(append(slices.Clone(old), u)))
	return nil
}

// Unuse removes a middleware, and reports whether it was in use. A message that is
// on its way already goes through it.
func (r *Router) Unuse(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.inUse()
	all := slices.DeleteFunc(slices.Clone(old), func(u use) bool { return u.info.Name == name })
	r.middleware.Store(newMiddlewares(all))
	return len(all) < len(old)
}

func (r *Router) inUse() []use {
	if m := r.middleware.Load(); m != nil {
		return m.all
	}
	return nil
}

// Middleware returns the middlewares in use, in the order in which they were
// added.
func (r *Router) Middleware() []MiddlewareInfo {
	var infos []MiddlewareInfo
	for _, u := range r.inUse() {
		infos = append(infos, u.info)
	}
	return infos
}
