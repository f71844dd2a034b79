// Package router carries messages between plugins: to one plugin, with one
// reply, many or none, and to whoever handles a topic.
//
//	r, err := router.New(router.Options{})
//	indexer, err := r.Client("indexer", router.ClientOptions{})
//	reader, err := r.Client("reader", router.ClientOptions{})
//
//	_, err = indexer.Handle("count", func(ctx context.Context, m router.Message) (any, error) {
//		return len(strings.Fields(m.Data().(string))), nil
//	})
//	reply, err := reader.Send(ctx, "indexer", "count", "to be or not to be")
//	fmt.Println(reply.Data()) // 6
//
// A hub makes the router and its clients; plugins use the same methods on their
// session. A router without a hub allows everything: see [plugbus.Guard].
//
// # Sending
//
// [Client.Send] waits for one reply, [Client.Stream] for many, and [Client.Post]
// for none. [Client.Publish] reaches every handler of a topic. A message has a
// type, which chooses the handler, and the types and topics have the grammar of
// event names. The router stamps sender, id and time; a [ClientID] is the
// sender's own, and can serve to find duplicates.
//
// # Mailboxes
//
// Each plugin has one mailbox with three priorities. While messages of all three
// wait, each round takes 8 of high priority, 4 of normal and 1 of low; the first
// one of low priority waits for at most 12 others, and the first normal one for at
// most 17. Messages of one priority from one sender to one plugin are handled in
// the order sent, but for those with handlers that are [Concurrent].
//
// A mailbox is bounded in count and bytes, and one sender can have a quarter of
// it. A full one fails the send at once with [ErrQueueFull], unless the sender
// asked to wait by [WaitForRoom]. A plugin that is idle is reached through its
// mailbox too. The exception is a plugin that the policy names as inline with the
// sender, and that has nothing else to do: its handler runs on the sender's
// stack, so that the sender is not released by its context before it returns, and
// loses its goroutine if the handler ends that.
//
// # Waiting
//
// A request ends with its context, or after 30 seconds if that has no deadline;
// its handler's context has the same deadline. A request that would wait for
// itself is refused at once, with the chain of plugins in the error: this finds
// the circle as far as handlers pass on their context.
//
// A handler that runs when its time is over is abandoned: its caller is released,
// what it returns later is thrown away and counted, and [Router.Leaks] names it
// until then. It keeps the worker of its plugin, since handlers run one at a time.
// When only the caller goes away, the handler's context ends, and its result is
// the outcome.
//
// # Errors
//
// What a handler returns as its error arrives as a [*plugbus.RemoteError], with a
// code and text and no cause. To choose the code, return a RemoteError; other
// errors get one by what they match. A message that was accepted and has no reply
// for another reason gives a [*DeliveryError], which says whether its handler had
// started.
//
// # Streams
//
// A stream's handler gives its chunks one by one, and waits while the reader has
// [StreamWindow] of them. The reader can stop at any time. Either side gives up
// when the other is idle for too long, by [Idle]. A stream is one delivery with
// one outcome.
//
// # Outcomes
//
// Every message ends, for every recipient, in exactly one [plugbus.Outcome], and
// [Router.Ledger] counts them. Posts and publications that were accepted and not
// handled are kept as dead letters, in bounded number, until the host takes them
// or sends them again: see [Router.DeadLetters].
//
// # Middleware
//
// Middleware wraps the sending of messages, for all of them or for one
// recipient: see [Router.Use]. It belongs to the host, and runs on the sender's
// goroutine, before the check; so what was checked is what is delivered. [Retry],
// [TimeLimit], [Deduplicate] and [Validate] are ready to use.
//
// # Taking over
//
// A client that is made with ClientOptions.Held is to take the place of the one with its
// id: it sets its handlers beside it, and [Client.Succeed] gives it the place and the
// mailbox in one step, with what waits there. When what the old one runs has ended and it
// is closed, [Client.Settle] has the handlers of the new one called.
//
// # Permissions
//
// A message needs the sender's right to send and the recipient's right to
// receive, a publication the rights to publish and to consume. Both are asked for
// again when a delivery starts, and for each chunk of a stream. Whoever serves a request may reply to it, once,
// until its deadline; the reply passes the same checks of size and content.
package router
