// Command notes keeps notes in a folder. One plugin writes them into a persistent
// store, another watches the store and prints what it hears.
//
//	go run ./examples/notes [-dir DIR] [-note TEXT] [-count N]
//
// Run it again, and the notes of before are there, for 30 days, also if it was ended
// by kill -9: what it has printed is on disk.
//
// The exit status is 0 if everything was written, 1 if something went wrong, and 2
// if the arguments are wrong.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

//go:embed policy.json
var policyFile []byte

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the command, and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	complain := log.New(stderr, "notes: ", 0)
	flags := flag.NewFlagSet("notes", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "the folder of the notes; plugbus-notes in your folder for caches if empty")
	note := flags.String("note", "", "the text of the note; a few words about this run if empty")
	count := flags.Int("count", 1, "how many notes to write")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		complain.Printf("%q is no flag; a note is given as -note %q", flags.Arg(0), flags.Arg(0))
		return 2
	case *count < 0:
		complain.Printf("-count is %d; expected 0 or more", *count)
		return 2
	}
	if *dir == "" {
		caches, err := os.UserCacheDir()
		if err != nil {
			complain.Printf("there is no folder for caches (%v); name a folder with -dir", err)
			return 2
		}
		*dir = filepath.Join(caches, "plugbus-notes")
	}
	if err := keep(ctx, *dir, *note, *count, stdout); err != nil {
		complain.Print(err)
		return 1
	}
	return 0
}

// keep prints the notes in dir, and writes that many more, which are printed too.
func keep(ctx context.Context, dir, text string, count int, stdout io.Writer) (err error) {
	policy, err := security.Parse(policyFile, "policy.json")
	if err != nil {
		return err
	}
	h, err := hub.New(hub.Options{Policy: policy, StoreDir: dir}) //nolint:contextcheck // A hub lives until Close, whatever becomes of a context.
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout) // It keeps its first error for Flush.
	defer func() {
		_, closing := h.Close(context.WithoutCancel(ctx))
		err = errors.Join(err, closing, out.Flush())
	}()
	fmt.Fprintf(out, "The notes in %s:\n\n", dir)

	r := &reader{out: out}
	if err := h.Register(ctx, &writer{}, r); err != nil { // In this order: the writer makes the store.
		return err
	}
	for range count {
		if _, err := h.Host().Send(ctx, "writer", "note.write", text, router.WaitForRoom()); err != nil {
			return err
		}
	}
	if err := h.Idle(ctx); err != nil { // Until the reader has heard of everything.
		return err
	}
	fmt.Fprintf(out, "\n%d kept, %d new. Run it again: they will all be there.\n", r.kept, r.added)
	return nil
}
