package main

import (
	"context"
	"fmt"
	"net"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// nullServer speaks etcd's protocol and does nothing: the ceiling for everything that has grpc-go at its edge.
type nullServer struct {
	pb.UnimplementedKVServer
	pb.UnimplementedMaintenanceServer
}

func (nullServer) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 1}}, nil
}

func (nullServer) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1}}, nil
}

func runNull(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: bench null ADDRESS")
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, nullServer{})
	pb.RegisterMaintenanceServer(server, nullServer{})
	return server.Serve(l)
}
