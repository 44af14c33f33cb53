package transport

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame on the wire:
//
//	length   4 bytes, little endian: of the payload
//	channel  1 byte
//	crc      4 bytes, little endian: CRC-32C of length, channel and payload
//	payload
const frameHeaderBytes = 9

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends a frame whose payload encode appends.
func appendFrame(dst []byte, channel Channel, encode func([]byte) []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frameHeaderBytes)...)
	dst = encode(dst)
	header, payload := dst[start:start+frameHeaderBytes], dst[start+frameHeaderBytes:]
	binary.LittleEndian.PutUint32(header, uint32(len(payload)))
	header[4] = byte(channel)
	binary.LittleEndian.PutUint32(header[5:], frameSum(header, payload))
	return dst
}

func frameSum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:5], castagnoli), castagnoli, payload)
}

// readFrame reads one frame into memory of its own. io.EOF means that the other side closed
// between two frames.
func readFrame(r *bufio.Reader, maxBytes int) (Channel, []byte, error) {
	header, err := r.Peek(frameHeaderBytes)
	if err != nil {
		if err == io.EOF && len(header) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	length := binary.LittleEndian.Uint32(header)
	if uint64(length) > uint64(maxBytes) {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes is above the limit of %d", ErrMalformed, length, maxBytes)
	}
	// The header lies in the reader's buffer, which the next read overwrites.
	var saved [frameHeaderBytes]byte
	copy(saved[:], header)
	_, _ = r.Discard(frameHeaderBytes) // cannot fail after Peek
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if want := binary.LittleEndian.Uint32(saved[5:]); frameSum(saved[:], payload) != want {
		return 0, nil, fmt.Errorf("%w: the checksum of a frame of %d bytes on channel %d is wrong", ErrMalformed, length, saved[4])
	}
	return Channel(saved[4]), payload, nil
}

// frameBuffered tells whether the next frame can be read without waiting.
func frameBuffered(r *bufio.Reader) bool {
	if r.Buffered() < frameHeaderBytes {
		return false
	}
	header, _ := r.Peek(frameHeaderBytes)
	return uint64(r.Buffered()) >= frameHeaderBytes+uint64(binary.LittleEndian.Uint32(header))
}
