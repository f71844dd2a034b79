// Package router will carry messages between plugins: to one plugin, with one
// reply, many or none, and to whoever handles a topic. It holds no code yet;
// this page is the contract that it will be written to.
//
// # Sending
//
// Send will wait for one reply, Stream for many, and Post for none. Publish will
// reach every handler of a topic. No call will take a sender: a plugin will act
// through a handle that stamps it. Serving a request will grant one reply to its
// requester, until its deadline.
//
// # Mailboxes
//
// Each plugin will have one mailbox with three priorities, weighted so that the
// lowest is never starved, bounded in count and bytes, with a share for each
// sender. A full mailbox will fail the send at once, or let it wait for as long
// as its context if it asked to. Messages of one priority from one sender will
// arrive in the order sent. A plugin that is idle will be reached through its
// mailbox too.
//
// # Waiting
//
// A request will end with its context or with the default deadline. A late reply
// will be dropped and counted, and no goroutine will stay behind. A request that
// would wait for itself will be refused at once, with the chain of plugins in the
// error.
//
// # Outcomes
//
// Every message will end, for every recipient, in exactly one plugbus.Outcome.
// An error of the recipient will arrive as a *plugbus.RemoteError, with a code
// and capped text. Messages that could not be delivered will be kept as dead
// letters, in bounded number, to be listed and sent again.
//
// # Middleware
//
// Middleware will wrap delivery, for all messages or for one route, in a stated
// order, under a name. It will run before the check, so that what was checked is
// what is delivered.
package router
