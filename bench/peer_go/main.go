// A bare Go handler that parses events and drops them: what net/http and encoding/json cost before any work is done.
// It answers /v1/track and /v1/batch with {"success":true}, and takes datagrams of one JSON event on the same port.
// Nothing is validated, stored or resolved. Properties and context stay raw, which is the cheapest that encoding/json
// offers here.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

type event struct {
	Type        string          `json:"type"`
	MessageID   string          `json:"messageId"`
	Timestamp   string          `json:"timestamp"`
	SentAt      string          `json:"sentAt"`
	Event       string          `json:"event"`
	UserID      string          `json:"userId"`
	AnonymousID string          `json:"anonymousId"`
	WriteKey    string          `json:"writeKey"`
	Properties  json.RawMessage `json:"properties"`
	Context     json.RawMessage `json:"context"`
}

type batch struct {
	Batch  []event `json:"batch"`
	SentAt string  `json:"sentAt"`
}

var (
	success   = []byte(`{"success":true}`)
	malformed = []byte(`{"code":"invalid_json","message":"not a JSON event"}`)
	taken     atomic.Int64
)

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(malformed)
		return
	}
	_, _ = w.Write(success)
}

func track(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var one event
		if err = json.Unmarshal(body, &one); err == nil {
			taken.Add(1)
		}
	}
	answer(w, err)
}

func many(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var all batch
		if err = json.Unmarshal(body, &all); err == nil {
			taken.Add(int64(len(all.Batch)))
		}
	}
	answer(w, err)
}

func datagrams(socket net.PacketConn) {
	buffer := make([]byte, 65536)
	for {
		length, _, err := socket.ReadFrom(buffer)
		if err != nil {
			return
		}
		var one event
		if json.Unmarshal(buffer[:length], &one) == nil {
			taken.Add(1)
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	address := listener.Addr().String()
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		panic(err)
	}
	_ = socket.(*net.UDPConn).SetReadBuffer(4 << 20)
	go datagrams(socket)
	http.HandleFunc("/v1/track", track)
	http.HandleFunc("/v1/batch", many)
	http.HandleFunc("/taken", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, taken.Load()) })
	_, _ = fmt.Fprintln(os.Stdout, address[strings.LastIndex(address, ":")+1:])
	panic(http.Serve(listener, nil))
}
