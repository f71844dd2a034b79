package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/plugbus/plugbus/hub"
)

// swapping replaces the printer while the student posts letters to it.
func (t *tour) swapping(ctx context.Context) error {
	t.say(`The printer is to have a new version, while the student posts letters to it. The
first that the host tries does not start:
`)
	paper, err := t.paper(ctx)
	if err != nil {
		return err
	}
	if _, err := paper.Set(ctx, "tray", 100); err != nil {
		return err
	}
	err = t.hub.Replace(ctx, &printer{version: "2.0.0", broken: true})
	t.quote(fmt.Sprint(err))
	t.say("")
	info, _ := t.plugin("printer")
	t.check(err != nil && info.Version == "1.0.0" && info.State == hub.Ready, "the old printer has not noticed: version %s is %v", info.Version, info.State)

	const before, during, after = 4, 16, 4
	var letters []string
	for n := range before + during + after {
		letters = append(letters, fmt.Sprintf("letter %d", n+1))
	}
	if err := t.post(ctx, letters[:before]); err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil { // So that the old one has something to print too.
		return err
	}
	posted := make(chan error, 1)
	go func() { posted <- t.post(ctx, letters[before:before+during]) }() // Waited for below.
	old, next := t.printer, &printer{version: "2.0.1"}
	replacing := t.hub.Replace(ctx, next)
	if err := <-posted; err != nil {
		return err
	}
	if replacing != nil {
		return replacing
	}
	t.printer = next
	if err := t.post(ctx, letters[before+during:]); err != nil {
		return err
	}
	printed, err := t.printed(ctx)
	if err != nil {
		return err
	}
	first := old.printed // Nothing of the old one runs any more.
	info, _ = t.plugin("printer")
	t.check(info.Version == "2.0.1" && len(first) >= before && len(printed) >= after, "version %s has its place; both have printed", info.Version)
	t.check(slices.Equal(slices.Concat(first, printed), letters), "no letter is lost, none came twice, and they stayed in their order: %d letters", len(first)+len(printed))
	return nil
}

// post has the student post letters to the printer.
func (t *tour) post(ctx context.Context, letters []string) error {
	for _, letter := range letters {
		if err := t.student.hub.Post(ctx, "printer", "print.text", letter); err != nil {
			return err
		}
	}
	return nil
}
