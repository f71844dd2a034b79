package main

import (
	"context"
	"fmt"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A guest is a plugin that nobody trusts, and rightly so.
type guest struct {
	hub  *hub.Session
	news chan router.Message
}

func (g *guest) Manifest() hub.Manifest {
	return hub.Manifest{ID: "guest", Version: "1.0.0"}
}

func (g *guest) Start(_ context.Context, hub *hub.Session) error {
	g.hub, g.news = hub, make(chan router.Message, 1)
	return nil
}

// forge emits a note that says, wherever it can, that it comes from the reader.
// When the note has passed the door, the guest changes what it says.
func (g *guest) forge(ctx context.Context) error {
	note := map[string]any{"source": "reader", "text": "no harm meant"}
	_, err := g.hub.Emit(ctx, "guest.note", note, events.Headers(map[string]string{"source": "reader"}))
	note["text"] = "<script>steal()</script>"
	return err
}

// An attempt is something that the guest may not do.
type attempt struct {
	to     string // in words
	do     func(ctx context.Context) error
	reason plugbus.Reason // why it is refused
}

// attempts are what the guest tries.
func (g *guest) attempts() []attempt {
	emit := func(name string, data any) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := g.hub.Emit(ctx, name, data)
			return err
		}
	}
	return []attempt{
		{
			`emit "files.read", with a file of its own making`,
			emit("files.read", File{"README.md", "word word word"}),
			plugbus.ReasonInsufficientPermissions,
		},
		{
			`emit "plugin:registered", as only the hub does`,
			emit("plugin:registered", hub.Notice{Plugin: "admin"}),
			plugbus.ReasonReservedName,
		},
		{
			`listen to the files`,
			func(context.Context) error {
				_, err := g.hub.Subscribe("files.*", func(context.Context, events.Event) error { return nil })
				return err
			},
			plugbus.ReasonInsufficientPermissions,
		},
		{
			`read what the counter keeps in its store`,
			func(ctx context.Context) error {
				_, err := g.hub.OpenStore(ctx, "words")
				return err
			},
			plugbus.ReasonInsufficientPermissions,
		},
		{
			`smuggle a script, deep inside of a note that it may emit`,
			emit("guest.note", map[string]any{"comments": []any{"fine", map[string]any{"html": "well, <ScRiPt\n>steal()"}}}),
			plugbus.ReasonInvalidContent,
		},
	}
}

// call is the guest's call of what it may not know of.
func (g *guest) call() attempt {
	return attempt{`call "text.search"`, func(ctx context.Context) error {
		_, err := g.hub.Call(ctx, "text.search", Query{"password"})
		return err
	}, plugbus.ReasonInsufficientPermissions}
}

// hurry is the guest's post of a letter that pushes in.
func (g *guest) hurry() attempt {
	return attempt{`post a letter of high priority`, func(ctx context.Context) error {
		return g.hub.Post(ctx, "printer", "print.text", "me first", router.Priority(plugbus.PriorityHigh))
	}, plugbus.ReasonPriorityNotGranted}
}

// help is the guest's way to help itself to paper that it may only look at.
func (g *guest) help() attempt {
	return attempt{`take the paper`, func(ctx context.Context) error {
		paper, err := g.hub.OpenStore(ctx, "paper")
		if err != nil {
			return fmt.Errorf("it cannot even look: %v", err) //nolint:errorlint // Not the refusal that is meant.
		}
		_, err = paper.Set(ctx, "tray", []byte("0"))
		return err
	}, plugbus.ReasonInsufficientPermissions}
}

// flood emits so many pings, and returns the error of each that was refused.
func (g *guest) flood(ctx context.Context, pings int) (refusals []error) {
	for n := range pings {
		if _, err := g.hub.Emit(ctx, "guest.ping", n); err != nil {
			refusals = append(refusals, err)
		}
	}
	return refusals
}
