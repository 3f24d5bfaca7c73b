/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the disk stream talk over: the test has a socket, what is tested has a
 * disklink.
 *
 * That is a socket pair; or, where MCD_TEST_RDMA names an address of this host that an RDMA device
 * has (tests/lab), an RDMA connection to itself, and two threads that move bytes between its far
 * end and the test's socket.
 */
#pragma once
#include "diskmirror/disklink.h"

/* Makes a disklink of link_fd, of which the test holds the other end; over RDMA that end is served
 * until either side ends.  Like disklink_socket_new, but fails the test rather than returning. */
struct disklink *test_disklink(int link_fd);
