// Package actor runs the handlers of each plugin one at a time, on a goroutine
// of the plugin's own.
//
// A [Group] owns the goroutines of one hub. An [Actor] belongs to one plugin.
// Its sources, such as the plugin's subscriptions, say with [Actor.Signal] that
// there is work, and the actor's worker calls their Work until there is none.
//
// A worker exists only while there is work and for a short while after: it
// parks, because waking a goroutine costs less than starting one, and ends when
// it was not needed for one to two linger periods.
//
// A handler that panics is its source's to recover. A handler that ends its
// goroutine (runtime.Goexit) ends the worker; the actor goes on with a new one.
package actor
