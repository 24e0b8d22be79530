// The peer that a Go programmer would write: gorilla/websocket, one goroutine per connection that reads, and a broadcast that prepares
// the message once and writes it to every connection in turn. It says everything to everybody and keeps nothing.
package main

import (
	"bufio"
	"flag"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

type hub struct {
	mutex   sync.Mutex
	clients map[*websocket.Conn]struct{}
}

func (h *hub) serve(upgrader *websocket.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		h.mutex.Lock()
		h.clients[client] = struct{}{}
		h.mutex.Unlock()
		defer func() {
			h.mutex.Lock()
			delete(h.clients, client)
			h.mutex.Unlock()
			client.Close()
		}()
		for {
			if _, _, err := client.NextReader(); err != nil {
				return
			}
		}
	}
}

func (h *hub) broadcast(length int) {
	text := "\"" + strings.Repeat("x", length-2) + "\""
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
	if err != nil {
		log.Fatal(err)
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for client := range h.clients {
		// A client that is gone is noticed by its reader.
		_ = client.WritePreparedMessage(message)
	}
}

func main() {
	clients := flag.String("clients", "", "address for WebSockets")
	orders := flag.String("orders", "", "address for orders: one length of data per line")
	flag.Parse()
	h := &hub{clients: map[*websocket.Conn]struct{}{}}
	upgrader := &websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	chiefs, err := net.Listen("tcp", *orders)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(*clients, h.serve(upgrader))) }()
	chief, err := chiefs.Accept()
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(chief)
	for lines.Scan() {
		length, err := strconv.Atoi(lines.Text())
		if err != nil || length < 2 {
			log.Fatalf("not a length: %q", lines.Text())
		}
		h.broadcast(length)
	}
}
