package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Frames as they are written: RFC 9113, 4.1 and 6.

func appendFrame(out []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	out = binary.BigEndian.AppendUint32(out, stream)
	return append(out, payload...)
}

func appendSettings(out []byte, settings []http2.Setting) []byte {
	var payload []byte
	for _, s := range settings {
		payload = binary.BigEndian.AppendUint16(payload, uint16(s.ID))
		payload = binary.BigEndian.AppendUint32(payload, s.Val)
	}
	return appendFrame(out, http2.FrameSettings, 0, 0, payload)
}

func appendSettingsAck(out []byte) []byte {
	return appendFrame(out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
}

func appendUint32(out []byte, kind http2.FrameType, stream, value uint32) []byte {
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], value)
	return appendFrame(out, kind, 0, stream, payload[:])
}

func appendWindowUpdate(out []byte, stream, increment uint32) []byte {
	return appendUint32(out, http2.FrameWindowUpdate, stream, increment)
}

func appendReset(out []byte, stream uint32, code http2.ErrCode) []byte {
	return appendUint32(out, http2.FrameRSTStream, stream, uint32(code))
}

func appendPing(out []byte, ack bool, data [8]byte) []byte {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	return appendFrame(out, http2.FramePing, flags, 0, data[:])
}

func appendGoAway(out []byte, last uint32, code http2.ErrCode, reason string) []byte {
	payload := binary.BigEndian.AppendUint32(nil, last)
	payload = binary.BigEndian.AppendUint32(payload, uint32(code))
	return appendFrame(out, http2.FrameGoAway, 0, 0, append(payload, reason...))
}

// appendHeaderBlock appends fields as a HEADERS frame, and CONTINUATION frames if they do not fit into one.
func (c *Conn) appendHeaderBlock(out []byte, stream uint32, end bool, parts ...[]field) []byte {
	c.block.Reset()
	for _, fields := range parts {
		for _, f := range fields {
			_ = c.encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}) // a buffer has no errors
		}
	}
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for block := c.block.Bytes(); ; {
		n := min(len(block), c.maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders // the same bit in CONTINUATION
		}
		out = appendFrame(out, kind, flags, stream, block[:n])
		if block = block[n:]; len(block) == 0 {
			return out
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

var responseHeaders = []field{{":status", "200"}, {"content-type", "application/grpc"}}

func (c *Conn) appendHeaders(out []byte, stream uint32, metadata []field) []byte {
	return c.appendHeaderBlock(out, stream, false, responseHeaders, metadata)
}

func (c *Conn) appendTrailers(out []byte, stream uint32, status *Status) []byte {
	return c.appendHeaderBlock(out, stream, true, status.fields())
}

// appendTrailersOnly answers a call that has no message.
func (c *Conn) appendTrailersOnly(out []byte, stream uint32, status *Status) []byte {
	return c.appendHeaderBlock(out, stream, true, responseHeaders, status.fields())
}
